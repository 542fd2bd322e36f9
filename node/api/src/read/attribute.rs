//! Attributes of container instances as callers see them.

use crate::page::Page;
use muster_model::{Error, InstanceStatus, State};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::attribute::check_target_type;
use muster_proto::{pb, view};

/// By instance, then by name; built-in ones too, as in ECS.
///
/// # Errors
/// `NotFound` for the cluster, `Invalid` for a bad page, another target type, or a value without a
/// name.
pub fn list(
    state: &State,
    request: &pb::ListAttributesRequest,
) -> Result<pb::ListAttributesResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    check_target_type(&request.target_type)?;
    let (name, value) = (request.attribute_name.as_str(), request.attribute_value.as_str());
    if name.is_empty() && !value.is_empty() {
        let allowed = "the name of the attribute that has this value";
        return Err(Error::invalid("attributeName", "", allowed));
    }
    let kind = format!("attributes {} {name} {value}", cluster.id);
    let page = Page::new(kind, &request.next_token, request.max_results)?;
    let wanted = |attribute: &pb::Attribute| {
        (name.is_empty() || attribute.name == name)
            && (value.is_empty() || attribute.value.as_deref() == Some(value))
    };
    let rows = state
        .instances()
        .filter(|row| row.cluster == cluster.id && row.status != InstanceStatus::Inactive);
    let items = rows
        .flat_map(|row| {
            let target_id = Arns::of(state).instance(&cluster.name, row.id);
            let mut attributes = view::attributes(row);
            attributes.sort_by(|a, b| a.name.cmp(&b.name));
            attributes.into_iter().map(move |attribute| {
                let key = format!("{} {}", row.id, attribute.name);
                (key, pb::Attribute { target_id: target_id.clone(), ..attribute })
            })
        })
        .filter(|(key, attribute)| {
            wanted(attribute) && page.after().is_none_or(|last| key.as_str() > last)
        });
    let (attributes, next_token) = page.take(items);
    Ok(pb::ListAttributesResponse { attributes, next_token })
}
