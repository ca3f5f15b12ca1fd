//! `query-yank` and `yank`: how a client frees a VMM that hangs on a connection. Both are served out
//! of band, before all that waits, as in QEMU; so a registry that has them offers `oob`.
//!
//! Nothing in a VMM that waits for no connection can be yanked: the list is empty, and whatever is
//! named is not found.
//!
//! Source: QEMU, `qapi/yank.json`.

use serde::{Deserialize, Serialize};

use crate::protocol::ErrorClass;
use crate::registry::{Command, CommandError, NoArguments, Registry};
use crate::schema::{QapiType, Schema, TypeName};

/// Registers the commands.
pub(super) fn register<C: 'static>(registry: &mut Registry<C>) {
    registry
        .add(Command::out_of_band("query-yank", |_: NoArguments| {
            Ok(Vec::<Instance>::new())
        }))
        .add(Command::out_of_band("yank", yank));
}

crate::qapi! {
    #[derive(Deserialize)]
    struct Yank {
        instances: Vec<Instance>,
    }
}

crate::qapi! {
    #[derive(Clone, Copy, Deserialize, Serialize)]
    enum Kind { BlockNode, Chardev, Migration }
}

/// The union `YankInstance`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Instance {
    r#type: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl QapiType for Instance {
    fn describe(schema: &mut Schema) -> TypeName {
        schema.object::<Self>(|object| {
            object
                .member::<Kind>("type")
                .tag("type")
                .variant::<BlockNode>("block-node")
                .variant::<Chardev>("chardev")
                .variant::<()>("migration");
        })
    }
}

crate::qapi! {
    /// What a block node is named by.
    #[derive(Serialize)]
    struct BlockNode {
        node_name: String,
    }
}

crate::qapi! {
    /// What a character device is named by.
    #[derive(Serialize)]
    struct Chardev {
        id: String,
    }
}

fn yank(asked: Yank) -> Result<(), CommandError> {
    for (index, instance) in asked.instances.iter().enumerate() {
        let lacks = match instance.r#type {
            Kind::BlockNode if instance.node_name.is_none() => "node-name",
            Kind::Chardev if instance.id.is_none() => "id",
            _ => continue,
        };
        let text = format!("Parameter 'instances[{index}].{lacks}' is missing");
        return Err(CommandError::generic(text));
    }
    if asked.instances.is_empty() {
        return Ok(());
    }
    Err(CommandError::new(
        ErrorClass::DeviceNotFound,
        "Instance not found",
    ))
}
