//! The run-state commands as a client sees them: results, refusals, and what comes before what.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod soft;
mod support;

use serde_json::{Value, json};
use soft::Soft;
use support::Client;

fn start() -> (Soft, Client) {
    let soft = Soft::start();
    let client = soft.client();
    (soft, client)
}

fn status(client: &mut Client) -> String {
    let reply = client.call("{'execute':'query-status'}");
    let status = reply["return"]["status"].as_str().expect("a status");
    assert_eq!(reply["return"]["running"], json!(status == "running"));
    status.to_owned()
}

fn refusal(client: &mut Client, command: &str) -> String {
    let reply = client.call(command);
    assert_eq!(reply["error"]["class"], "GenericError", "{reply}");
    reply["error"]["desc"].as_str().expect("a text").to_owned()
}

fn order(client: &mut Client, command: &str) -> Vec<String> {
    client.send(command);
    client.order(1)
}

#[test]
fn events_come_before_the_reply_of_the_command_that_caused_them() {
    let (soft, mut client) = start();
    assert_eq!(
        order(&mut client, "{'execute':'cont'}"),
        ["RESUME", "reply"]
    );
    assert_eq!(order(&mut client, "{'execute':'stop'}"), ["STOP", "reply"]);
    assert_eq!(
        order(&mut client, "{'execute':'system_reset'}"),
        ["RESET", "reply"]
    );
    assert_eq!(
        order(&mut client, "{'execute':'system_powerdown'}"),
        ["POWERDOWN", "reply"]
    );
    assert_eq!(
        order(&mut client, "{'execute':'cont'}"),
        ["RESUME", "reply"]
    );
    let sleep = "{'execute':'x-guest','arguments':{'deed':'suspend'}}";
    assert_eq!(order(&mut client, sleep), ["SUSPEND", "reply"]);
    assert_eq!(status(&mut client), "suspended");
    assert_eq!(
        order(&mut client, "{'execute':'system_wakeup'}"),
        ["WAKEUP", "reply"]
    );
    assert_eq!(status(&mut client), "running");
    client.send("{'execute':'quit'}");
    assert_eq!(client.order(2), ["SHUTDOWN", "reply", "end"]);
    assert_eq!(soft.cause(), "host-qmp-quit");
}

#[test]
fn pipelined_commands_each_see_what_the_one_before_has_done() {
    let (soft, mut client) = start();
    client.send(
        "{'execute':'cont'}{'execute':'system_reset'}{'execute':'stop'}{'execute':'query-status'}\
         {'execute':'quit'}{'execute':'query-status','id':'never'}",
    );
    let expected = [
        "RESUME", "reply", "RESET", "reply", "STOP", "reply", "reply",
    ];
    assert_eq!(client.order(4), expected);
    assert_eq!(client.order(9), ["SHUTDOWN", "reply", "end"]);
    soft.cause();
}

#[test]
fn every_client_sees_every_event_in_the_same_order() {
    let (soft, mut first) = start();
    let mut second = Client::connect(soft.path());
    let mut late = Client::connect(soft.path());
    second.negotiate();
    first.call("{'execute':'cont'}");
    first.call("{'execute':'system_reset'}");
    late.negotiate();
    first.send("{'execute':'quit'}");
    assert_eq!(second.order(1), ["RESUME", "RESET", "SHUTDOWN", "end"]);
    // What happened before its negotiation is not for it.
    assert_eq!(late.order(1), ["SHUTDOWN", "end"]);
    soft.cause();
}

#[test]
fn stop_and_cont_are_harmless_when_there_is_nothing_to_do() {
    let (_soft, mut client) = start();
    for _ in 0..2 {
        client.call("{'execute':'cont'}");
    }
    assert_eq!(order(&mut client, "{'execute':'cont'}"), ["reply"]);
    assert_eq!(order(&mut client, "{'execute':'stop'}"), ["STOP", "reply"]);
    assert_eq!(order(&mut client, "{'execute':'stop'}"), ["reply"]);
    assert_eq!(status(&mut client), "paused");
    client.call("{'execute':'quit'}");
}

#[test]
fn refusals_are_in_qemus_words_and_change_nothing() {
    let (_soft, mut client) = start();
    assert_eq!(
        refusal(&mut client, "{'execute':'system_wakeup'}"),
        "Unable to wake up: guest is not in suspended state"
    );
    client.call("{'execute':'x-pretend','arguments':{'dump':true}}");
    for command in ["stop", "cont", "system_reset"] {
        assert_eq!(
            refusal(&mut client, &format!("{{'execute':'{command}'}}")),
            "There is a dump in process, please wait."
        );
    }
    client.call("{'execute':'x-pretend','arguments':{'dump':false,'preconfig':true}}");
    for command in [
        "stop",
        "cont",
        "system_reset",
        "inject-nmi",
        "query-current-machine",
    ] {
        let text = refusal(&mut client, &format!("{{'execute':'{command}'}}"));
        let expected = "is permitted only after machine initialization has completed";
        assert_eq!(text, format!("The command '{command}' {expected}"));
    }
    assert_eq!(status(&mut client), "prelaunch");
    let fine = client.call("{'execute':'set-action','arguments':{}}");
    assert_eq!(fine, json!({"return": {}}));
    client.call("{'execute':'x-pretend','arguments':{'preconfig':false}}");

    client.call("{'execute':'set-action','arguments':{'shutdown':'pause'}}");
    client.call("{'execute':'cont'}");
    let off = "{'execute':'x-guest','arguments':{'deed':'shutdown'}}";
    assert_eq!(order(&mut client, off), ["SHUTDOWN", "STOP", "reply"]);
    assert_eq!(
        refusal(&mut client, "{'execute':'cont'}"),
        "Resetting the Virtual Machine is required"
    );
    assert_eq!(status(&mut client), "shutdown");
    client.call("{'execute':'quit'}");
}

#[test]
fn set_action_takes_all_or_nothing() {
    let (soft, mut client) = start();
    for (arguments, text) in [
        (
            "{'panic':'bogus'}",
            "Parameter 'panic' does not accept value 'bogus'",
        ),
        (
            "{'reboot':'shutdown','shutdown':'none'}",
            "Parameter 'shutdown' does not accept value 'none'",
        ),
        (
            "{'watchdog':1}",
            "Invalid parameter type for 'watchdog', expected: string",
        ),
        ("{'foo':'reset'}", "Parameter 'foo' is unexpected"),
    ] {
        let command = format!("{{'execute':'set-action','arguments':{arguments}}}");
        assert_eq!(refusal(&mut client, &command), text);
    }
    // The valid half of the second refusal was not done: a reset is still a reset.
    assert_eq!(
        order(&mut client, "{'execute':'system_reset'}"),
        ["RESET", "reply"]
    );
    client.call("{'execute':'set-action','arguments':{'reboot':'shutdown'}}");
    client.send("{'execute':'system_reset'}");
    let shutdown = client.message().expect("an event");
    assert_eq!(
        shutdown["data"],
        json!({"guest": false, "reason": "host-qmp-system-reset"})
    );
    assert_eq!(client.order(2), ["reply", "end"]);
    assert_eq!(soft.cause(), "host-qmp-system-reset");
}

#[test]
fn guest_panics_are_reported_with_action_and_information() {
    let (soft, mut client) = start();
    let panic = |deed| format!("{{'execute':'x-guest','arguments':{{'deed':'{deed}'}}}}");
    client.call("{'execute':'cont'}");
    client.call("{'execute':'set-action','arguments':{'panic':'none'}}");
    client.send(panic("panic"));
    let event = client.message().expect("an event");
    assert_eq!(event["data"], json!({"action": "run"}));
    client.reply();
    client.send(panic("crashload"));
    let event = client.message().expect("an event");
    assert_eq!(event["event"], "GUEST_CRASHLOADED");
    assert_eq!(event["data"], json!({"action": "run"}));
    client.reply();
    client.call("{'execute':'set-action','arguments':{'panic':'pause'}}");
    client.send(panic("hyper-v-panic"));
    let event = client.message().expect("an event");
    let info = json!({
        "type": "hyper-v", "arg1": 1, "arg2": 2, "arg3": 3, "arg4": 4, "arg5": u64::MAX,
    });
    assert_eq!(event["data"], json!({"action": "pause", "info": info}));
    assert_eq!(client.order(1), ["STOP", "reply"]);
    assert_eq!(status(&mut client), "guest-panicked");
    client.call("{'execute':'quit'}");
    soft.cause();
}

#[test]
fn queries_answer_with_qapis_members() {
    let (_soft, mut client) = start();
    let mut ask = |name: &str| client.call(&format!("{{'execute':'{name}'}}"))["return"].clone();
    assert_eq!(ask("query-name"), json!({"name": "soft"}));
    assert_eq!(
        ask("query-uuid"),
        json!({"UUID": "00000000-0000-0000-0000-000000000000"})
    );
    assert_eq!(
        ask("query-kvm"),
        json!({"enabled": false, "present": false})
    );
    assert_eq!(ask("query-target"), json!({"arch": "x86_64"}));
    assert_eq!(
        ask("query-current-machine"),
        json!({"wakeup-suspend-support": true})
    );
    let version = json!({"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "soft-vmm"});
    assert_eq!(ask("query-version"), version);
    let cpus = ask("query-cpus-fast");
    assert_eq!(cpus.as_array().map(Vec::len), Some(2));
    assert_eq!(cpus[1]["cpu-index"], 1);
    assert_eq!(cpus[1]["thread-id"], std::process::id());
    assert_eq!(ask("inject-nmi"), json!({}));
    let names = |list: Value| -> Vec<String> {
        let list = list.as_array().expect("a list").clone();
        list.iter()
            .map(|entry| entry["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let commands = names(ask("query-commands"));
    assert_eq!(
        commands.last().map(String::as_str),
        Some("qmp_capabilities")
    );
    for expected in [
        "stop",
        "cont",
        "quit",
        "set-action",
        "query-status",
        "inject-nmi",
    ] {
        assert!(commands.iter().any(|name| name == expected), "{expected}");
    }
    let events = names(ask("query-events"));
    for expected in [
        "STOP",
        "RESUME",
        "RESET",
        "SHUTDOWN",
        "WAKEUP",
        "EVENTS_LOST",
    ] {
        assert!(events.iter().any(|name| name == expected), "{expected}");
    }
    client.call("{'execute':'quit'}");
}

#[test]
fn a_reset_loop_is_reported_reset_by_reset() {
    let (_soft, mut client) = start();
    client.call("{'execute':'cont'}");
    client.send("{'execute':'x-guest','arguments':{'deed':'reset','times':1000}}");
    let order = client.order(1);
    assert_eq!(order.iter().filter(|name| *name == "RESET").count(), 1000);
    client.call("{'execute':'quit'}");
}

#[test]
fn several_sockets_lead_to_one_machine() {
    let soft = Soft::with_sockets(2);
    let [mut first, mut second] = [0, 1].map(|number| Client::connect(&soft.paths[number]));
    first.negotiate();
    second.negotiate();
    first.call("{'execute':'cont'}");
    assert_eq!(status(&mut second), "running");
    second.call("{'execute':'quit'}");
    assert_eq!(first.order(1), ["SHUTDOWN", "end"]);
    let paths = soft.paths.clone();
    assert_eq!(soft.cause(), "host-qmp-quit");
    assert!(
        paths.iter().all(|path| !path.exists()),
        "both files are gone"
    );
}
