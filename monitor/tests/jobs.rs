//! Long commands: everything else goes on, and each can be stopped, ended and looked at.

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

use monitor::jobs::{JobOptions, Step};
use monitor::{CommandError, Registry, Version};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;
use support::{Client, PATIENCE, Scratch};

const SUM: u64 = 0x5A * (8 << 20);

/// Calls, and keeps the statuses that come before the reply.
fn call(client: &mut Client, command: &str, arguments: &Value, seen: &mut Vec<String>) -> Value {
    send(client, &[(command, arguments)]);
    reply(client, seen)
}

/// Sends commands in one piece. The server executes one in each of its turns from then on, whatever becomes of the client.
fn send(client: &mut Client, commands: &[(&str, &Value)]) {
    let spelled = |(command, arguments): &(&str, &Value)| {
        json!({"execute": command, "arguments": arguments}).to_string()
    };
    client.send(commands.iter().map(spelled).collect::<String>());
}

/// The next reply; keeps the statuses that come before it.
fn reply(client: &mut Client, seen: &mut Vec<String>) -> Value {
    loop {
        let message = client.message().expect("a reply");
        if message["event"] == "JOB_STATUS_CHANGE" {
            let status = message["data"]["status"].as_str().expect("a status");
            seen.push(status.to_owned());
        } else if message.get("event").is_none() {
            return message;
        }
    }
}

fn refusal(reply: &Value) -> &str {
    reply["error"]["desc"].as_str().expect("a refusal")
}

/// Asks for the jobs until `done` holds for the only one; its last sight, if it is still there.
fn watch(client: &mut Client, seen: &mut Vec<String>, done: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let jobs = call(client, "query-jobs", &json!({}), seen)["return"].take();
        let job = jobs.get(0).cloned().unwrap_or(Value::Null);
        if done(&job) {
            return job;
        }
        assert!(Instant::now() < until, "waited in vain: {job}");
    }
}

#[test]
fn a_job_in_steps_lets_everything_else_go_on() {
    soft::with_client(|client| {
        let mut seen = Vec::new();
        let (start, none) = (json!({"job-id": "sum"}), json!({}));
        // Queries are answered while it works: it has more steps than these take turns.
        let mut commands = vec![("x-checksum", &start)];
        commands.extend([("query-status", &none); 20]);
        send(client, &commands);
        assert_eq!(reply(client, &mut seen), json!({"return": {}}));
        for _ in 0..20 {
            let status = reply(client, &mut seen);
            assert_eq!(status["return"]["running"], false);
        }
        assert_eq!(seen, ["created", "running"], "it works on");
        watch(client, &mut seen, Value::is_null);
        let expected = [
            "created",
            "running",
            "waiting",
            "pending",
            "concluded",
            "null",
        ];
        assert_eq!(seen, expected);
        let sum = call(client, "x-query-checksum", &json!({}), &mut seen);
        assert_eq!(sum["return"], SUM);
        assert_eq!(watch(client, &mut seen, |_| true), Value::Null);
    });
}

#[test]
fn a_job_in_steps_is_paused_resumed_and_cancelled() {
    soft::with_client(|client| {
        let mut seen = Vec::new();
        let id = json!({"id": "sum"});
        let start = json!({"job-id": "sum", "auto-dismiss": false});
        send(client, &[("x-checksum", &start), ("job-pause", &id)]);
        for _ in 0..2 {
            assert_eq!(reply(client, &mut seen), json!({"return": {}}));
        }
        let paused = watch(client, &mut seen, |job| job["status"] == "paused");
        assert_eq!(paused["type"], "checksum");
        assert_eq!(paused["total-progress"], 8 << 20);
        for _ in 0..20 {
            call(client, "query-status", &json!({}), &mut seen);
        }
        assert_eq!(watch(client, &mut seen, |_| true), paused, "it stands");
        let again = call(client, "job-pause", &id, &mut seen);
        assert_eq!(refusal(&again), "Job is already paused");
        send(
            client,
            &[("job-resume", &id), ("job-resume", &id), ("job-pause", &id)],
        );
        assert_eq!(reply(client, &mut seen), json!({"return": {}}));
        let again = reply(client, &mut seen);
        assert_eq!(refusal(&again), "Can't resume a job that was not paused");
        assert_eq!(reply(client, &mut seen), json!({"return": {}}));
        watch(client, &mut seen, |job| job["status"] == "paused");
        call(client, "job-cancel", &id, &mut seen);
        let end = watch(client, &mut seen, |job| job["status"] == "concluded");
        assert_eq!(end["error"], "Operation canceled");
        call(client, "job-dismiss", &id, &mut seen);
        let expected = [
            "created",
            "running",
            "paused",
            "running",
            "paused",
            "running",
            "aborting",
            "concluded",
            "null",
        ];
        assert_eq!(seen, expected);
        let gone = call(client, "job-dismiss", &id, &mut seen);
        assert_eq!(refusal(&gone), "Job not found");
    });
}

#[test]
fn a_job_on_a_thread_does_the_whole_of_its_work() {
    let scratch = Scratch::new();
    soft::with_client(|client| {
        let mut seen = Vec::new();
        let path = scratch.path("dump");
        let start = json!({
            "job-id": "dump", "path": path, "auto-finalize": false, "auto-dismiss": false,
        });
        call(client, "x-dump", &start, &mut seen);
        let second = call(client, "x-dump", &start, &mut seen);
        assert_eq!(refusal(&second), "Job ID 'dump' already in use");
        let id = json!({"id": "dump"});
        watch(client, &mut seen, |job| job["status"] == "pending");
        call(client, "job-finalize", &id, &mut seen);
        let end = watch(client, &mut seen, |job| job["status"] == "concluded");
        assert!(end.get("error").is_none(), "{end}");
        assert_eq!(end["current-progress"], 8 << 20);
        call(client, "job-dismiss", &id, &mut seen);

        let start = json!({"job-id": "again", "path": path});
        call(client, "x-dump", &start, &mut seen);
        watch(client, &mut seen, Value::is_null);
        let written = std::fs::read(&path).expect("the file");
        assert!(written.len() == 8 << 20 && written.iter().all(|&byte| byte == 0x5A));

        // One that is paused for ever does not hold up the end.
        call(client, "x-dump", &start, &mut seen);
        call(client, "job-pause", &json!({"id": "again"}), &mut seen);
    });
}

#[test]
fn a_job_that_fails_says_why() {
    soft::with_client(|client| {
        if !Path::new("/dev/full").exists() {
            return;
        }
        let mut seen = Vec::new();
        let start = json!({"job-id": "dump", "path": "/dev/full", "auto-dismiss": false});
        call(client, "x-dump", &start, &mut seen);
        let end = watch(client, &mut seen, |job| job["status"] == "concluded");
        assert!(end["error"].to_string().contains("No space left"), "{end}");
        call(client, "query-status", &json!({}), &mut seen);
        assert_eq!(seen, ["created", "running", "aborting", "concluded"]);
    });
}

#[test]
fn jobs_do_not_pile_up() {
    let mut registry: Registry<()> = Registry::new(Version::new(1, 0, 0, ""));
    let jobs = registry.jobs();
    let start = |id: String| {
        let options = JobOptions::new("test", id).dismissed_by_hand();
        jobs.in_steps(options, |(), _| Ok::<_, CommandError>(Step::Done))
    };
    for number in 0..64 {
        start(format!("job{number}")).expect("there is room");
    }
    while jobs.step(&mut ()) {}
    let refused = start("job64".to_owned()).expect_err("there is none");
    assert!(refused.desc().contains("at most 64"), "{refused}");
    assert!(refused.desc().contains("job-dismiss"), "{refused}");
    let dismiss = |id: &str| {
        let id = json!({"id": id}).as_object().expect("an object").clone();
        registry.execute(&mut (), "job-dismiss", id)
    };
    dismiss("job7").expect("it has concluded");
    start("job64".to_owned()).expect("there is room again");
    let long = start("j".repeat(200)).expect_err("nobody can want that");
    assert!(long.desc().contains("at most 127"), "{long}");
    for bad in ["", "1a", "a b", "\u{e9}"] {
        let refused = start(bad.to_owned()).expect_err("it is no name");
        assert_eq!(refused.desc(), format!("Invalid job ID '{bad}'"));
    }
}

#[test]
fn work_that_is_dropped_has_failed() {
    let mut registry: Registry<()> = Registry::new(Version::new(1, 0, 0, ""));
    let jobs = registry.jobs();
    let options = JobOptions::new("test", "job0").dismissed_by_hand();
    drop(jobs.start(options).expect("a job"));
    let listed = registry.execute(&mut (), "query-jobs", serde_json::Map::new());
    let job = listed.expect("a list")[0].take();
    assert_eq!(job["status"], "concluded");
    assert_eq!(job["error"], "The job has ended without a result");
}

#[test]
fn a_job_that_is_ready_waits_to_be_completed() {
    let mut registry: Registry<()> = Registry::new(Version::new(1, 0, 0, ""));
    let jobs = registry.jobs();
    let options = JobOptions::new("mirror", "job0").dismissed_by_hand();
    let job = jobs.start(options).expect("a job");
    let worker = std::thread::spawn(move || {
        job.ready();
        let completed = job.wait_for_complete();
        job.finish(completed);
    });
    let status = || {
        let listed = registry.execute(&mut (), "query-jobs", serde_json::Map::new());
        let listed = listed.expect("a list");
        listed[0]["status"].as_str().expect("a status").to_owned()
    };
    let wait = |wanted: &str| {
        let until = Instant::now() + PATIENCE;
        while status() != wanted {
            assert!(Instant::now() < until, "it does not become {wanted}");
        }
    };
    let call = |command: &str| {
        let id = json!({"id": "job0"})
            .as_object()
            .expect("an object")
            .clone();
        registry.execute(&mut (), command, id)
    };
    wait("ready");
    call("job-pause").expect("it fits");
    wait("standby");
    let refused = call("job-complete").expect_err("not now");
    let text = "Job 'job0' in state 'standby' cannot accept command verb 'complete'";
    assert_eq!(refused.desc(), text);
    call("job-resume").expect("it fits");
    wait("ready");
    call("job-complete").expect("it fits");
    worker.join().expect("it does not panic");
    let listed = registry.execute(&mut (), "query-jobs", serde_json::Map::new());
    assert_eq!(listed.expect("a list")[0]["status"], "concluded");
}

/// What both are asked of a job that has concluded and is still there.
const VERBS: [&str; 6] = [
    "job-pause",
    "job-resume",
    "job-cancel",
    "job-complete",
    "job-finalize",
    "job-dismiss",
];

#[test]
fn qemu_has_the_same_statuses_and_the_same_refusals() {
    let Some((_qemu, [mut theirs])) = qemu::start(&["-M", "none"]) else {
        return;
    };
    theirs.negotiate();
    let scratch = Scratch::new();
    soft::with_client(|ours| {
        let mut answers = [Vec::new(), Vec::new()];
        let file = scratch.path("image");
        std::fs::write(&file, "").expect("a file");
        let image = json!({"driver": "file", "filename": file, "size": 4096});
        let create = |id: &str| ("blockdev-create", json!({"job-id": id, "options": image}));
        let checksum = |id: &str| ("x-checksum", json!({"job-id": id, "auto-dismiss": false}));
        for (server, client) in [&mut theirs, ours].into_iter().enumerate() {
            let said = &mut answers[server];
            let mut seen = Vec::new();
            for id in ["job0", "job0", "0bad", "a b", ""] {
                let (command, arguments) = if server == 0 {
                    create(id)
                } else {
                    checksum(id)
                };
                said.push(call(client, command, &arguments, &mut seen));
            }
            watch(client, &mut seen, |job| job["status"] == "concluded");
            for verb in VERBS {
                for id in ["job0", "nonesuch"] {
                    said.push(call(client, verb, &json!({"id": id}), &mut seen));
                }
            }
            said.push(json!(seen));
        }
        let [theirs, ours] = answers;
        assert_eq!(ours, theirs);
    });
}
