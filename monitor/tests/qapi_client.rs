//! The crates `qapi` and `qapi-qmp` as a client: every reply and event must fit the types that were
//! made from QEMU's own schema.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod soft;
mod support;

use qapi::qmp::{self, Event, RunState, ShutdownCause};
use qapi::{Command, ErrorClass, ExecuteError, Qmp, Stream};
use soft::Soft;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use support::PATIENCE;

type Client = Qmp<Stream<BufReader<UnixStream>, UnixStream>>;

fn names(client: &mut Client) -> Vec<String> {
    let name = |event: &Event| {
        let event = serde_json::to_value(event).expect("JSON");
        event["event"].as_str().expect("a name").to_owned()
    };
    let events: Vec<_> = client.events().collect();
    events.iter().map(name).collect()
}

/// The class and the text of a refusal.
fn refused<C: Command>(client: &mut Client, command: &C) -> (ErrorClass, String) {
    match client.execute(command) {
        Err(ExecuteError::Qapi(error)) => (error.class, error.desc),
        Err(error) => panic!("{}: {error}", C::NAME),
        Ok(_) => panic!("{}: not refused", C::NAME),
    }
}

#[test]
fn a_client_with_types_made_from_qemus_schema_understands_everything() {
    let soft = Soft::start();
    let stream = UnixStream::connect(soft.path()).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut client = Qmp::new(Stream::new(reader, stream));
    let greeting = client.handshake().expect("a greeting");
    assert_eq!(greeting.version.qemu.major, 7);
    assert_eq!(greeting.version.package, "soft-vmm");
    let client = &mut client;

    let status = client.execute(&qmp::query_status {}).expect("a status");
    assert_eq!(
        (status.status, status.running),
        (RunState::prelaunch, false)
    );
    client.execute(&qmp::cont {}).expect("done");
    let status = client.execute(&qmp::query_status {}).expect("a status");
    assert_eq!((status.status, status.running), (RunState::running, true));
    client.execute(&qmp::stop {}).expect("done");
    client.execute(&qmp::system_reset {}).expect("done");
    client.execute(&qmp::system_powerdown {}).expect("done");
    client.execute(&qmp::inject_nmi {}).expect("done");
    assert_eq!(names(client), ["RESUME", "STOP", "RESET", "POWERDOWN"]);

    let name = client.execute(&qmp::query_name {}).expect("a name");
    assert_eq!(name.name.as_deref(), Some("soft"));
    let uuid = client.execute(&qmp::query_uuid {}).expect("a UUID");
    assert_eq!(uuid.UUID.len(), 36);
    let kvm = client.execute(&qmp::query_kvm {}).expect("an answer");
    assert!(!kvm.enabled);
    let cpus = client.execute(&qmp::query_cpus_fast {}).expect("CPUs");
    assert_eq!(cpus.len(), 2);
    client.execute(&qmp::query_target {}).expect("a target");
    let machine = client
        .execute(&qmp::query_current_machine {})
        .expect("a machine");
    assert!(machine.wakeup_suspend_support);
    let commands = client.execute(&qmp::query_commands {}).expect("commands");
    assert!(commands.iter().any(|command| command.name == "job-pause"));
    let schema = client.execute(&qmp::query_qmp_schema {}).expect("a schema");
    assert!(schema.len() > 100, "{}", schema.len());
    let text = qmp::human_monitor_command {
        cpu_index: Some(1),
        command_line: "info status".to_owned(),
    };
    let text = client.execute(&text).expect("a text");
    assert_eq!(text, "VM status: paused (prelaunch)\r\n");

    let memory = client
        .execute(&qmp::query_memory_size_summary {})
        .expect("memory");
    assert_eq!((memory.base_memory, memory.plugged_memory), (8 << 20, None));
    assert_eq!(
        client
            .execute(&qmp::query_chardev {})
            .expect("a list")
            .len(),
        1
    );
    assert_eq!(
        client
            .execute(&qmp::query_iothreads {})
            .expect("a list")
            .len(),
        0
    );
    assert_eq!(
        client.execute(&qmp::query_block {}).expect("a list").len(),
        0
    );
    assert_eq!(
        client.execute(&qmp::query_jobs {}).expect("a list").len(),
        0
    );
    let options = qmp::query_command_line_options { option: None };
    assert_eq!(client.execute(&options).expect("a list")[0].option, "qmp");
    let types = qmp::qom_list_types {
        implements: Some("device".to_owned()),
        abstract_: None,
    };
    assert_eq!(
        client.execute(&types).expect("a list")[0].name,
        "isa-debug-exit"
    );
    let exit = qmp::device_list_properties {
        typename: "isa-debug-exit".to_owned(),
    };
    assert_eq!(client.execute(&exit).expect("a list").len(), 2);
    let models = client
        .execute(&qmp::query_cpu_definitions {})
        .expect("a list");
    assert_eq!(models[0].name, "host");

    let none = qmp::device_list_properties {
        typename: "nonesuch".to_owned(),
    };
    let (class, text) = refused(client, &none);
    assert_eq!(
        (class, &*text),
        (ErrorClass::DeviceNotFound, "Device 'nonesuch' not found")
    );
    let (class, _) = refused(client, &qmp::system_wakeup {});
    assert_eq!(class, ErrorClass::GenericError);
    let absent = qmp::device_del { id: "x".to_owned() };
    let (class, text) = refused(client, &absent);
    let expected = "The command device_del has not been found";
    assert_eq!((class, &*text), (ErrorClass::CommandNotFound, expected));

    client.execute(&qmp::quit {}).expect("done");
    let events: Vec<_> = client.events().collect();
    let Some(Event::SHUTDOWN { data, .. }) = events.last() else {
        panic!("{events:?}");
    };
    assert!(!data.guest);
    assert_eq!(data.reason, ShutdownCause::host_qmp_quit);
    soft.cause();
}
