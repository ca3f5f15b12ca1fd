//! What tools ask when they connect, of a VM as a user starts it.

mod common;

use std::process::Stdio;

use common::{Directory, Qmp, Running, needs_kvm, program, wait_for};
use serde_json::json;

#[test]
fn tools_learn_what_the_vm_consists_of() {
    needs_kvm!();
    let directory = Directory::new();
    let socket = directory.option("unix", "qmp");
    let mut vm = Running::start(
        program()
            .args(["--serial", "none", "--memory", "48M", "--qmp", &socket])
            .stdin(Stdio::null())
            .stdout(Stdio::null()),
    );
    let mut qmp = Qmp::connect(&directory.path("qmp"));
    let memory = qmp.execute("query-memory-size-summary");
    assert_eq!(memory, json!({"base-memory": 48 << 20}));
    let chardevs = qmp.execute("query-chardev");
    let filename = format!("{socket},server=on");
    let monitor = json!({"label": "compat_monitor0", "filename": filename, "frontend-open": true});
    let serial = json!({"label": "serial0", "filename": "null", "frontend-open": true});
    assert_eq!(chardevs, json!([serial, monitor]));
    for nothing in ["query-block", "query-iothreads", "qom-list-types"] {
        assert_eq!(qmp.execute(nothing), json!([]), "{nothing}");
    }
    assert_eq!(qmp.execute("query-machines")[0]["cpu-max"], 254);
    let models = qmp.execute("query-cpu-definitions");
    assert_eq!(models[0]["unavailable-features"], json!([]));
    let options = qmp.execute("query-command-line-options");
    for option in ["qmp", "memory", "S"] {
        let known = json!({"option": option, "parameters": []});
        assert!(options.as_array().unwrap().contains(&known), "{option}");
    }
    let commands = qmp.execute("query-commands");
    assert!(!commands.to_string().contains("device_"));
    qmp.execute("quit");
    let status = wait_for("end", || vm.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
