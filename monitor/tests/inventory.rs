//! What tools ask when they connect: the answers are the VMM's, the refusals QEMU's.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod qemu;
mod soft;
mod support;

use monitor::inventory::{Inventory, MemorySize, ObjectType, register};
use monitor::{Registry, Version};
use serde_json::{Value, json};

#[test]
fn the_answers_are_what_the_vmm_says() {
    soft::with_client(|client| {
        let mut ask =
            |command, arguments: Value| client.call_with(command, &arguments)["return"].take();
        let none = json!({});
        let memory = ask("query-memory-size-summary", none.clone());
        assert_eq!(memory, json!({"base-memory": 8 << 20}));
        let chardev = json!({"label": "serial0", "filename": "null", "frontend-open": true});
        assert_eq!(ask("query-chardev", none.clone()), json!([chardev]));
        assert_eq!(ask("query-iothreads", none.clone()), json!([]));
        assert_eq!(ask("query-block", none.clone()), json!([]));
        let machines = ask("query-machines", none.clone());
        assert_eq!(machines[0]["cpu-max"], 2);
        assert!(machines[0].get("alias").is_none());
        assert_eq!(
            ask("query-cpu-definitions", none.clone())[0]["name"],
            "host"
        );
        let option = json!([{"option": "qmp", "parameters": []}]);
        assert_eq!(ask("query-command-line-options", none), option);
        let one = ask("query-command-line-options", json!({"option": "qmp"}));
        assert_eq!(one, option);
        let names = |types: Value| -> Vec<Value> {
            let types = types.as_array().expect("a list").clone();
            types.iter().map(|entry| entry["name"].clone()).collect()
        };
        let exit = json!({"name": "isa-debug-exit", "parent": "isa-device"});
        let devices = json!({"implements": "device"});
        assert_eq!(ask("qom-list-types", devices), json!([exit]));
        let all = ask("qom-list-types", json!({"abstract": true}));
        assert_eq!(names(all).len(), 4);
        let concrete = ask(
            "qom-list-types",
            json!({"implements": "object", "abstract": false}),
        );
        assert_eq!(names(concrete), ["isa-debug-exit", "secret"]);
    });
}

/// The same request to both, where both must say the same.
const SAME: &[(&str, &str)] = &[
    ("query-command-line-options", "{\"option\": \"nonesuch\"}"),
    ("qom-list-types", "{\"implements\": \"nonesuch\"}"),
    ("qom-list-types", "{\"implements\": \"isa-debug-exit\"}"),
    ("device-list-properties", "{}"),
    ("device-list-properties", "{\"typename\": \"nonesuch\"}"),
    ("device-list-properties", "{\"typename\": \"device\"}"),
    ("device-list-properties", "{\"typename\": \"secret\"}"),
    ("device-list-properties", "{\"typename\": \"isa-device\"}"),
    (
        "device-list-properties",
        "{\"typename\": \"isa-debug-exit\"}",
    ),
    ("query-block", "{}"),
    ("query-iothreads", "{}"),
];

#[test]
fn qemu_answers_and_refuses_with_the_same_words() {
    let Some((_qemu, [mut theirs])) = qemu::start(&["-M", "none"]) else {
        return;
    };
    theirs.negotiate();
    soft::with_client(|ours| {
        for (command, arguments) in SAME {
            let arguments: Value = serde_json::from_str(arguments).expect("JSON");
            let theirs = theirs.call_with(command, &arguments);
            assert_eq!(
                ours.call_with(command, &arguments),
                theirs,
                "{command} {arguments}"
            );
        }
    });
}

/// A VMM that says no more than it must, and one that contradicts itself.
struct Least(Vec<ObjectType>);

impl Inventory for Least {
    fn memory(&self) -> MemorySize {
        MemorySize {
            base_memory: 1,
            plugged_memory: Some(2),
        }
    }

    fn object_types(&self) -> Vec<ObjectType> {
        self.0.clone()
    }
}

#[test]
fn what_a_vmm_says_nothing_of_is_empty() {
    let mut registry = Registry::new(Version::new(1, 0, 0, ""));
    register(&mut registry);
    let mut least = Least(Vec::new());
    let names: Vec<_> = registry
        .commands()
        .map(|info| info.name().to_owned())
        .collect();
    let mut asked = 0;
    for name in names
        .iter()
        .filter(|name| name.starts_with("query-") || *name == "qom-list-types")
    {
        if [
            "query-version",
            "query-commands",
            "query-events",
            "query-qmp-schema",
        ]
        .contains(&&**name)
        {
            continue;
        }
        let answer = registry.execute(&mut least, name, serde_json::Map::new());
        let expected = match &**name {
            "query-memory-size-summary" => json!({"base-memory": 1, "plugged-memory": 2}),
            _ => json!([]),
        };
        assert_eq!(answer, Ok(expected), "{name}");
        asked += 1;
    }
    assert_eq!(asked, 9);
    assert!(!names.iter().any(|name| name.starts_with("device_")));
}

#[test]
fn a_type_that_descends_from_itself_ends_the_search() {
    let mut registry = Registry::new(Version::new(1, 0, 0, ""));
    register(&mut registry);
    let mut circle = Least(vec![ObjectType::new("a", "b"), ObjectType::new("b", "a")]);
    let mut ask = |command: &str, arguments: Value| {
        let arguments = arguments.as_object().expect("an object").clone();
        registry.execute(&mut circle, command, arguments)
    };
    let found = ask("qom-list-types", json!({"implements": "c"}));
    assert_eq!(found, Ok(json!([])));
    let refused = ask("device-list-properties", json!({"typename": "a"}));
    let text = "Parameter 'typename' expects a non-abstract device type";
    assert_eq!(
        refused.map_err(|error| error.to_string()),
        Err(text.to_owned())
    );
}

#[test]
fn what_is_yanked_is_not_there_and_overtakes_what_waits() {
    soft::with_client(|client| {
        let mut yank = |instance: Value| {
            let arguments = json!({"instances": [instance]});
            client.call_with("yank", &arguments)["error"].take()
        };
        let not_found = json!({"class": "DeviceNotFound", "desc": "Instance not found"});
        assert_eq!(yank(json!({"type": "chardev", "id": "serial0"})), not_found);
        assert_eq!(yank(json!({"type": "migration"})), not_found);
        let missing = "Parameter 'instances[0].node-name' is missing";
        assert_eq!(yank(json!({"type": "block-node"}))["desc"], missing);
        let reply = client.call_with("yank", &json!({"instances": []}));
        assert_eq!(reply, json!({"return": {}}));
        assert_eq!(
            client.call("{'execute':'query-yank'}"),
            json!({"return": []})
        );
    });
}
