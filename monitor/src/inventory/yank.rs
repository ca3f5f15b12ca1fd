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
    #[derive(Clone, Copy, Deserialize, PartialEq, Eq, Serialize)]
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

impl Instance {
    /// The member that its kind needs and that is not there, or else the one that its kind has not.
    fn fault(&self) -> Option<(&'static str, &'static str)> {
        let members = [
            (
                "node-name",
                self.r#type == Kind::BlockNode,
                self.node_name.is_some(),
            ),
            ("id", self.r#type == Kind::Chardev, self.id.is_some()),
        ];
        let missing = members.iter().find(|(_, needed, there)| *needed && !there);
        let unexpected = members.iter().find(|(_, needed, there)| *there && !needed);
        let missing = missing.map(|(name, ..)| (*name, "missing"));
        missing.or(unexpected.map(|(name, ..)| (*name, "unexpected")))
    }
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
        if let Some((member, fault)) = instance.fault() {
            let text = format!("Parameter 'instances[{index}].{member}' is {fault}");
            return Err(CommandError::generic(text));
        }
    }
    if asked.instances.is_empty() {
        return Ok(());
    }
    Err(CommandError::new(
        ErrorClass::DeviceNotFound,
        "Instance not found",
    ))
}
