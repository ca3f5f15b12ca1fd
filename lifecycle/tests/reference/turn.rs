//! A turn of the main loop: QEMU's `main_loop_should_exit` and `qemu_system_reset`.

use super::{Aborted, Played, Reference, by_guest};

impl Reference {
    /// What QEMU does in the timer of a watchdog, and in a write to pvpanic, is done here at the head
    /// of a turn. `true`: the process has ended.
    fn told(&mut self) -> bool {
        let (pvshutdown, watchdog) = (self.pvshutdown, self.watchdog);
        (self.pvshutdown, self.watchdog) = (false, false);
        if pvshutdown {
            self.say("event GUEST_PVSHUTDOWN");
            self.request_shutdown("guest-shutdown");
        }
        if !watchdog {
            return false;
        }
        let action = self.watchdog_action.clone();
        self.say(format!("event WATCHDOG action={action}"));
        match action.as_str() {
            "reset" => self.request_reset("guest-reset"),
            "shutdown" => {
                self.powerdown = true;
                self.kick();
            }
            "poweroff" => return true,
            "pause" => self.vmstop = Some("watchdog".into()),
            "debug" => self.say("report watchdog: timer fired"),
            "inject-nmi" => self.say("vcpu inject-nmi"),
            _ => {}
        }
        false
    }

    /// `Some`: the exit status.
    pub(super) fn should_exit(&mut self) -> Result<Option<i32>, Aborted> {
        if self.told() {
            return Ok(Some(0));
        }
        if core::mem::take(&mut self.debug) {
            self.stop("debug", true)?;
        }
        if self.suspend && self.gate_open {
            self.suspend = false;
            self.pause_all()?;
            self.notify("suspend", |_| String::new())?;
            self.set("suspended")?;
            self.say("event SUSPEND");
        }
        let cause = core::mem::replace(&mut self.shutdown, "none".into());
        if cause != "none" {
            if let Some((signal, pid)) = self.signal.take() {
                let sender = match pid.as_str() {
                    "0" => String::new(),
                    pid => format!(" from pid {pid} ()"),
                };
                self.say(format!("report terminating on signal {signal}{sender}"));
            }
            let guest = by_guest(&cause);
            self.say(format!("event SHUTDOWN guest={guest} reason={cause}"));
            let told = format!(" {cause}");
            self.notify("shutdown", |_| told.clone())?;
            if self.shutdown_action == "pause" {
                self.stop("shutdown", true)?;
            } else {
                let failure = cause == "guest-panic" && self.panic_action == "exit-failure";
                return Ok(Some(i32::from(failure)));
            }
        }
        if self.reset != "none" && self.gate_open {
            let cause = core::mem::replace(&mut self.reset, "none".into());
            self.pause_all()?;
            self.reset_machine(&cause)?;
            self.resume_all()?;
            if !["running", "inmigrate", "finish-migrate"].contains(&self.state.as_str()) {
                self.set("prelaunch")?;
            }
        }
        if self.wakeup != "none" {
            self.pause_all()?;
            if self.wakeup_hook {
                self.say("machine wakeup");
            }
            self.notify("wakeup", |now| format!(" {}", now.wakeup))?;
            self.wakeup = "none".into();
            self.resume_all()?;
            self.say("event WAKEUP");
        }
        if core::mem::take(&mut self.powerdown) {
            self.say("event POWERDOWN");
            self.notify("powerdown", |_| String::new())?;
        }
        if let Some(state) = self.vmstop.take() {
            self.stop(&state, true)?;
        }
        Ok(None)
    }

    fn reset_machine(&mut self, cause: &str) -> Played {
        self.say("vcpu synchronize-state");
        if self.reset_hook {
            self.say(format!("reset machine {cause}"));
        }
        self.say(format!("reset devices {cause}"));
        self.visit("reset")?;
        if !["subsystem-reset", "snapshot-load"].contains(&cause) {
            let guest = by_guest(cause);
            self.say(format!("event RESET guest={guest} reason={cause}"));
        }
        self.say("vcpu synchronize-post-reset");
        Ok(())
    }
}
