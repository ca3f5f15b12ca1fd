//! `dump-guest-memory` and what belongs to it, for a VMM that writes nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use monitor::dump::{
    DumpContext, DumpQueryResult, DumpRequest, DumpStatus, add_commands, dump_completed, register,
};
use monitor::human::Console;
use monitor::{CommandError, Registry, Version};
use serde_json::{Value, json};

#[derive(Default)]
struct Vmm {
    asked: Vec<DumpRequest>,
    progress: DumpQueryResult,
    busy: bool,
}

impl DumpContext for Vmm {
    fn dump(&mut self, request: &DumpRequest) -> Result<(), CommandError> {
        self.asked.push(request.clone());
        Ok(())
    }

    fn admit_dump(&self) -> Result<(), CommandError> {
        match self.busy {
            true => Err(CommandError::generic("busy")),
            false => Ok(()),
        }
    }

    fn dump_progress(&self) -> DumpQueryResult {
        self.progress
    }
}

fn execute(vmm: &mut Vmm, command: &str, arguments: Value) -> Result<Value, CommandError> {
    let mut registry = Registry::new(Version::new(1, 0, 0, ""));
    register(&mut registry);
    let arguments = arguments.as_object().cloned().unwrap();
    registry.execute(vmm, command, arguments)
}

#[test]
fn a_request_reaches_the_vmm_and_a_refused_one_does_not() {
    let mut vmm = Vmm::default();
    let asked =
        json!({"paging": false, "protocol": "file:x", "detach": true, "begin": 1, "length": 2});
    execute(&mut vmm, "dump-guest-memory", asked.clone()).unwrap();
    let request = vmm.asked.pop().unwrap();
    assert_eq!((&*request.file, request.detach), ("x", true));
    assert_eq!(request.range, Some(1..3));

    let paging = json!({"paging": true, "protocol": "file:x"});
    assert!(execute(&mut vmm, "dump-guest-memory", paging).is_err());
    vmm.busy = true;
    let error = execute(&mut vmm, "dump-guest-memory", asked).unwrap_err();
    assert_eq!(error.to_string(), "busy");
    assert!(vmm.asked.is_empty());
}

#[test]
fn progress_and_formats_are_in_qapis_spelling() {
    let mut vmm = Vmm::default();
    let none = json!({"status": "none", "completed": 0, "total": 0});
    assert_eq!(execute(&mut vmm, "query-dump", json!({})), Ok(none.clone()));
    let formats = execute(&mut vmm, "query-dump-guest-memory-capability", json!({}));
    assert_eq!(formats, Ok(json!({"formats": ["elf"]})));
    let failed = dump_completed(DumpQueryResult::default(), Some("full".to_owned()));
    let failed = serde_json::to_value(failed).unwrap();
    assert_eq!(failed, json!({"result": none, "error": "full"}));
}

#[test]
fn people_have_it_too() {
    let mut console = Console::new();
    add_commands(&mut console);
    let mut vmm = Vmm::default();
    assert_eq!(
        console.run(&mut vmm, "dump-guest-memory -d x 0x10 1", 0),
        ""
    );
    let request = vmm.asked.pop().unwrap();
    assert_eq!((&*request.file, request.detach), ("x", true));
    assert_eq!(request.range, Some(16..17));
    for (line, text) in [
        ("dump-guest-memory", "filename expected"),
        ("dump-guest-memory -p x", "'paging' must be false"),
        ("dump-guest-memory -w x", "win-dmp is not available"),
        ("dump-guest-memory x 1", "'length' is missing"),
        ("dump-guest-memory -R x", "unsupported option -R"),
    ] {
        let shown = console.run(&mut vmm, line, 0);
        assert!(shown.contains(text), "{line}: {shown}");
    }
    assert!(vmm.asked.is_empty());
    assert_eq!(console.run(&mut vmm, "info dump", 0), "Status: none\r\n");
    vmm.progress = DumpQueryResult {
        status: DumpStatus::Active,
        completed: 1,
        total: 3,
    };
    let shown = console.run(&mut vmm, "info dump", 0);
    assert_eq!(shown, "Status: active\r\nFinished: 33.33 %\r\n");
}
