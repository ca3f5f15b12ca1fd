//! The commands, one function each.

use super::types::{BlockInfo, ObjectTypeInfo};
use super::yank;
use super::{
    Chardev, CommandLineOption, CpuModel, Inventory, IoThread, MachineType, MemorySize, ObjectType,
    Property,
};
use crate::protocol::ErrorClass;
use crate::registry::{Command, CommandError, NoArguments, Registry};

/// The type that all devices descend from.
const DEVICE: &str = "device";

type Reply<T> = Result<T, CommandError>;

/// Registers the commands.
pub fn register<C: Inventory + 'static>(registry: &mut Registry<C>) {
    registry
        .described("query-memory-size-summary", memory::<C>)
        .add(Command::described("query-chardev", chardevs::<C>).allow_preconfig())
        .add(Command::described("query-iothreads", iothreads::<C>).allow_preconfig())
        .add(Command::described("query-block", block::<C>).allow_preconfig())
        .described("query-machines", machines::<C>)
        .described("query-cpu-definitions", cpu_models::<C>)
        .add(Command::described("query-command-line-options", options::<C>).allow_preconfig())
        .add(Command::described("qom-list-types", types::<C>).allow_preconfig())
        .described("device-list-properties", properties::<C>);
    yank::register(registry);
}

fn memory<C: Inventory>(context: &mut C, _: NoArguments) -> Reply<MemorySize> {
    Ok(context.memory())
}

fn chardevs<C: Inventory>(context: &mut C, _: NoArguments) -> Reply<Vec<Chardev>> {
    Ok(context.chardevs())
}

fn iothreads<C: Inventory>(context: &mut C, _: NoArguments) -> Reply<Vec<IoThread>> {
    Ok(context.iothreads())
}

fn block<C>(_: &mut C, _: NoArguments) -> Reply<Vec<BlockInfo>> {
    Ok(Vec::new())
}

fn machines<C: Inventory>(context: &mut C, _: NoArguments) -> Reply<Vec<MachineType>> {
    Ok(context.machines())
}

fn cpu_models<C: Inventory>(context: &mut C, _: NoArguments) -> Reply<Vec<CpuModel>> {
    Ok(context.cpu_models())
}

crate::qapi! {
    #[derive(serde::Deserialize)]
    struct Options {
        option: Option<String>,
    }
}

fn options<C: Inventory>(context: &mut C, asked: Options) -> Reply<Vec<CommandLineOption>> {
    let mut options = context.command_line_options();
    if let Some(wanted) = asked.option {
        options.retain(|option| option.option == wanted);
        if options.is_empty() {
            let text = format!("invalid option name: {wanted}");
            return Err(CommandError::generic(text));
        }
    }
    Ok(options)
}

crate::qapi! {
    #[derive(serde::Deserialize)]
    struct ListTypes {
        implements: Option<String>,
        r#abstract: Option<bool>,
    }
}

fn types<C: Inventory>(context: &mut C, asked: ListTypes) -> Reply<Vec<ObjectTypeInfo>> {
    let types = context.object_types();
    let shown = types.iter().filter(|object| {
        let wanted = asked.implements.as_deref();
        (!object.is_abstract || asked.r#abstract == Some(true))
            && wanted.is_none_or(|wanted| {
                lineage(&types, object).any(|object| descends_from(object, wanted))
            })
    });
    let infos = shown.map(|object| ObjectTypeInfo {
        name: object.name.clone(),
        r#abstract: object.is_abstract.then_some(true),
        parent: object.parent.clone(),
    });
    Ok(infos.collect())
}

crate::qapi! {
    #[derive(serde::Deserialize)]
    struct ListProperties {
        typename: String,
    }
}

fn properties<C: Inventory>(context: &mut C, asked: ListProperties) -> Reply<Vec<Property>> {
    let types = context.object_types();
    let name = asked.typename;
    let Some(object) = types.iter().find(|object| object.name == name) else {
        let text = format!("Device '{name}' not found");
        return Err(CommandError::new(ErrorClass::DeviceNotFound, text));
    };
    let is_device = lineage(&types, object).any(|object| descends_from(object, DEVICE));
    if !is_device || object.is_abstract {
        return Err(CommandError::generic(
            "Parameter 'typename' expects a non-abstract device type",
        ));
    }
    let properties = lineage(&types, object).flat_map(|object| &object.properties);
    Ok(properties.cloned().collect())
}

fn descends_from(object: &ObjectType, name: &str) -> bool {
    object.name == name || object.parent.as_deref() == Some(name)
}

/// A type, its parent, its parent's parent. Ends after as many steps as there are types, in case one
/// descends from itself.
fn lineage<'a>(
    types: &'a [ObjectType],
    object: &'a ObjectType,
) -> impl Iterator<Item = &'a ObjectType> {
    let parent = |object: &&ObjectType| {
        let name = object.parent.as_deref()?;
        types.iter().find(|type_| type_.name == name)
    };
    std::iter::successors(Some(object), parent).take(types.len())
}
