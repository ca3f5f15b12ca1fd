//! `query-qmp-schema`: complete, true to what the commands accept, and true to QEMU's own.

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

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use support::Client;

/// A schema by the names of its entries.
struct Schema(BTreeMap<String, Value>);

impl Schema {
    fn of(client: &mut Client) -> Self {
        let reply = client.call("{'execute':'query-qmp-schema'}");
        let entries = reply["return"].as_array().expect("a list").clone();
        let count = entries.len();
        let by_name: BTreeMap<_, _> = entries
            .into_iter()
            .map(|entry| (entry["name"].as_str().expect("a name").to_owned(), entry))
            .collect();
        assert_eq!(by_name.len(), count, "a name has one entry");
        Schema(by_name)
    }

    fn entry(&self, name: &Value) -> &Value {
        let name = name.as_str().expect("a name");
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the schema"))
    }

    fn kind(&self, kind: &str) -> Vec<String> {
        let of_kind = self.0.values().filter(|entry| entry["meta-type"] == kind);
        of_kind
            .map(|entry| entry["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    /// A type with the names of types taken out of it.
    fn shape(&self, name: &Value) -> Value {
        self.shape_within(name, &mut Vec::new())
    }

    /// The same within other types: one that contains itself ends there.
    fn shape_within<'a>(&'a self, name: &'a Value, outer: &mut Vec<&'a Value>) -> Value {
        if outer.contains(&name) {
            return json!("itself");
        }
        outer.push(name);
        let shape = self.shape_of(name, outer);
        outer.pop();
        shape
    }

    fn shape_of<'a>(&'a self, name: &'a Value, outer: &mut Vec<&'a Value>) -> Value {
        let entry = self.entry(name);
        let list = |member: &str| entry[member].as_array().map_or(&[][..], Vec::as_slice);
        match entry["meta-type"].as_str() {
            Some("builtin") => name.clone(),
            Some("array") => json!([self.shape_within(&entry["element-type"], outer)]),
            Some("enum") => {
                let members: Vec<_> = list("members")
                    .iter()
                    .map(|member| member["name"].clone())
                    .collect();
                assert_eq!(json!(members), entry["values"], "both spell the same");
                json!({"enum": members})
            }
            Some("object") => {
                let mut shape = Map::new();
                for member in list("members") {
                    let absent = member.get("default").map(Value::is_null);
                    assert_ne!(absent, Some(false), "only null is used");
                    let mark = if absent.is_some() { "?" } else { "" };
                    let name = member["name"].as_str().expect("a name");
                    shape.insert(
                        format!("{name}{mark}"),
                        self.shape_within(&member["type"], outer),
                    );
                }
                for variant in list("variants") {
                    let case = variant["case"].as_str().expect("a case");
                    let tag = entry["tag"].as_str().expect("a union has a tag");
                    shape.insert(
                        format!("{tag}={case}"),
                        self.shape_within(&variant["type"], outer),
                    );
                }
                Value::Object(shape)
            }
            other => panic!("{name} is no type but {other:?}"),
        }
    }

    /// The least value that a type allows.
    fn least(&self, name: &Value) -> Value {
        let entry = self.entry(name);
        match (entry["meta-type"].as_str(), entry["json-type"].as_str()) {
            (Some("builtin"), Some("string")) => json!(""),
            (Some("builtin"), Some("boolean")) => json!(false),
            (Some("builtin"), Some("int" | "number")) => json!(0),
            (Some("array"), _) => json!([]),
            (Some("enum"), _) => entry["values"][0].clone(),
            (Some("object"), _) => {
                let members = entry["members"].as_array().expect("members");
                let needed = members.iter().filter(|m| m.get("default").is_none());
                let least = needed.map(|member| {
                    let name = member["name"].as_str().expect("a name").to_owned();
                    (name, self.least(&member["type"]))
                });
                Value::Object(least.collect())
            }
            other => panic!("{name} is {other:?}: no value can be made for it"),
        }
    }
}

/// What a refusal says if it is about the arguments.
fn argument_fault(reply: &Value) -> Option<&str> {
    let text = reply["error"]["desc"].as_str()?;
    ["Parameter '", "Invalid parameter"]
        .iter()
        .any(|start| text.starts_with(start))
        .then_some(text)
}

#[test]
fn the_least_call_that_the_schema_allows_is_accepted() {
    soft::with_client(|client| {
        let schema = Schema::of(client);
        let commands = schema.kind("command");
        assert!(commands.len() > 20, "only {}", commands.len());
        for command in commands.iter().filter(|name| *name != "quit") {
            let arguments = &schema.0[command]["arg-type"];
            let least = schema.least(arguments);
            let reply = client.call_with(command, &least);
            assert_eq!(argument_fault(&reply), None, "{command} {least}");

            // It is the least: without any of its members the command is refused.
            for member in least.as_object().expect("an object").keys() {
                let mut less = least.clone();
                less.as_object_mut().expect("an object").remove(member);
                let expected = format!("Parameter '{member}' is missing");
                let reply = client.call_with(command, &less);
                assert_eq!(argument_fault(&reply), Some(&*expected), "{command} {less}");
            }
            let mut more = least.clone();
            more["x-more"] = json!(0);
            let reply = client.call_with(command, &more);
            let expected = "Parameter 'x-more' is unexpected";
            assert_eq!(argument_fault(&reply), Some(expected), "{command}");
        }
    });
}

#[test]
fn every_value_of_every_enum_is_accepted_and_no_other() {
    soft::with_client(|client| {
        let schema = Schema::of(client);
        let mut tried = 0;
        for command in schema.kind("command") {
            // These end the machine, or make it refuse whatever comes after.
            if ["x-guest", "qmp_capabilities"].contains(&&*command) {
                continue;
            }
            let arguments = &schema.0[&command]["arg-type"];
            let members = schema.entry(arguments)["members"].clone();
            for member in members.as_array().into_iter().flatten() {
                let r#type = schema.entry(&member["type"]);
                let name = member["name"].as_str().expect("a name");
                for value in r#type["values"].as_array().into_iter().flatten() {
                    let mut least = schema.least(arguments);
                    least[name] = value.clone();
                    let reply = client.call_with(&command, &least);
                    assert_eq!(argument_fault(&reply), None, "{command} {least}");
                    least[name] = json!("x-bogus");
                    let reply = client.call_with(&command, &least);
                    assert!(argument_fault(&reply).is_some(), "{command} {least}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 10, "only {tried} values");
    });
}

#[test]
fn the_schema_lists_what_query_commands_and_query_events_list() {
    soft::with_client(|client| {
        let schema = Schema::of(client);
        for (query, kind) in [("query-commands", "command"), ("query-events", "event")] {
            let reply = client.call(&format!("{{'execute':'{query}'}}"));
            let mut listed: Vec<_> = reply["return"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|entry| entry["name"].as_str().expect("a name").to_owned())
                .collect();
            listed.sort();
            assert_eq!(listed, schema.kind(kind));
        }
        let in_use: Vec<_> = schema.0.keys().cloned().collect();
        for name in in_use {
            let entry = &schema.0[&name];
            for member in ["arg-type", "ret-type"] {
                if let Some(r#type) = entry.get(member) {
                    schema.shape(r#type);
                }
            }
        }
        assert_eq!(schema.0["0"]["members"], json!([]));
        assert!(schema.0["0"].get("variants").is_none());
    });
}

/// What QEMU's has and ours has not, or the other way round, and why.
fn known(command: &str, part: &str, shape: &mut Value) {
    match command {
        _ if part == "arg-type" => {}
        // Newer versions have it no more; here it depends on the version that is asked for.
        "query-status" => {
            let members = shape.as_object_mut().expect("an object");
            members.remove("singlestep");
            members.remove("singlestep?");
        }
        // The architecture is the VMM's to name.
        "query-target" => shape["arch"] = json!("any"),
        "query-cpus-fast" => {
            let cpu = shape[0].as_object_mut().expect("an object");
            cpu.retain(|name, _| !name.starts_with("target"));
            let props = cpu["props?"].as_object_mut().expect("an object");
            props.retain(|name, _| !["node-id?", "die-id?", "cluster-id?"].contains(&&**name));
        }
        // What kinds of jobs there are is the VMM's to name.
        "query-jobs" => shape[0]["type"] = json!("str"),
        // What a disk has besides is for the VMM with disks to say.
        "query-block" => {
            let block = shape[0].as_object_mut().expect("an object");
            block.retain(|name, _| !name.ends_with('?'));
        }
        _ => {}
    }
}

#[test]
fn commands_and_events_have_the_types_that_qemu_says_they_have() {
    let Some((_qemu, [mut client])) = qemu::start(&["-M", "none"]) else {
        return;
    };
    client.negotiate();
    let theirs = Schema::of(&mut client);
    soft::with_client(|client| {
        let ours = Schema::of(client);
        let mut compared = 0;
        let mut wrong = Vec::new();
        for kind in ["command", "event"] {
            for name in ours.kind(kind) {
                // QEMU has GUEST_PVSHUTDOWN from 9.1 on.
                let newer = name == "GUEST_PVSHUTDOWN" && !theirs.0.contains_key(&name);
                let foreign = name.starts_with("x-") || name == "EVENTS_LOST" || newer;
                // Both are QEMU's; the schema's own type has kinds of entries that we never send.
                if foreign || ["query-events", "query-qmp-schema"].contains(&&*name) {
                    continue;
                }
                let (our, their) = (&ours.0[&name], &theirs.0[&name]);
                assert_eq!(our["allow-oob"], their["allow-oob"], "{name}");
                for part in ["arg-type", "ret-type"] {
                    if our.get(part).is_none() {
                        continue;
                    }
                    let [mut our, mut their] =
                        [(&ours, our), (&theirs, their)].map(|(s, entry)| s.shape(&entry[part]));
                    known(&name, part, &mut our);
                    known(&name, part, &mut their);
                    if our != their {
                        wrong.push(format!("{name} {part}\nours: {our}\nQEMU: {their}"));
                    }
                    compared += 1;
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        assert!(compared > 40, "only {compared}");
    });
}
