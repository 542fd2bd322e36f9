//! An instance's resource as ECS writes it: a set of ports is there though it is empty, and a
//! number has none beside it.

use crate::pb::InstanceResource;
use serde::ser::{Serialize, SerializeStruct, Serializer};

const SET: &str = "STRINGSET";

impl Serialize for InstanceResource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { name, r#type, integer_value, string_set_value } = self;
        let set = r#type == SET || !string_set_value.is_empty();
        let mut row = serializer.serialize_struct("Resource", if set { 4 } else { 3 })?;
        row.serialize_field("name", name)?;
        row.serialize_field("type", r#type)?;
        row.serialize_field("integerValue", integer_value)?;
        if set {
            row.serialize_field("stringSetValue", string_set_value)?;
        }
        row.end()
    }
}
