//! Whose output is sent on: what receivers are told of a container beside its lines.

use crate::journal::ContainerRecord;
use muster_model::log_driver::{Forwarding, TagField, TagPart};
use muster_model::spec::ContainerDefinition;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What receivers are told as the name of the daemon.
const DAEMON: &str = "muster";
/// Docker: characters of a short id.
const SHORT_ID_CHARS: usize = 12;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its id and name for the runtime.
    pub id: String,
    /// Its host name, where its definition says none.
    pub short_id: String,
    pub image_id: String,
    pub image_name: String,
    pub command: String,
    /// Milliseconds since 1970.
    pub created_at: u64,
    /// Variables and labels that the options name.
    pub fields: BTreeMap<String, String>,
}

impl Subject {
    pub fn new(
        record: &ContainerRecord,
        definition: &ContainerDefinition,
        command: &[String],
        forwarding: &Forwarding,
        created_at: u64,
    ) -> Self {
        let chosen = |names: &[String], from: &BTreeMap<String, String>| {
            let named = names.iter().filter_map(|name| from.get_key_value(name));
            named.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
        };
        // As Docker: of a label and a variable with one name the variable stays.
        let labels = chosen(&forwarding.labels, &definition.docker_labels);
        let fields = labels.into_iter().chain(chosen(&forwarding.env, &definition.environment));
        Self {
            id: record.id.clone(),
            short_id: record.short_id(),
            image_id: record.image_digest.clone(),
            image_name: definition.image.clone(),
            command: command.join(" "),
            created_at,
            fields: fields.collect(),
        }
    }

    pub fn tag(&self, parts: &[TagPart]) -> String {
        let text = |part: &TagPart| match part {
            TagPart::Text(text) => text.clone(),
            TagPart::Field(TagField::Id) => self.short_id.clone(),
            TagPart::Field(TagField::FullId | TagField::Name) => self.id.clone(),
            TagPart::Field(TagField::ImageId) => {
                let bare = self.image_id.strip_prefix("sha256:").unwrap_or(&self.image_id);
                bare.chars().take(SHORT_ID_CHARS).collect()
            }
            TagPart::Field(TagField::ImageFullId) => self.image_id.clone(),
            TagPart::Field(TagField::ImageName) => self.image_name.clone(),
            TagPart::Field(TagField::DaemonName) => DAEMON.to_owned(),
        };
        parts.iter().map(text).collect()
    }
}
