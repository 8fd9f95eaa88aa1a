//! What a host does to a plugin when something goes wrong, done on purpose: deliveries taken back, again and again, and a
//! process that is killed. And what is left of it at its end.

use super::{
    exam::{Exam, LIMIT, SOON, after, becomes, works},
    sheet::{Found, failed, ok, skipped, warned},
};
use campanile_loader::Running;
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

/// For one that is to be taken back.
const SHORT: Duration = Duration::from_millis(500);
/// For the answer to a cancel.
const CANCELLED: Duration = Duration::from_secs(1);
const OFTEN: usize = 10;

impl Exam<'_> {
    /// Its time is over: the host answers for it, and it must let go.
    pub async fn taken_back(&self, one: &Running) -> Found {
        let script = &self.room.script;
        script.hold();
        let late = self.deliver(one, SHORT).await;
        if late.is_ok() {
            script.release();
            return skipped("its deliveries wait for nothing that can be held back here");
        }
        let began = Instant::now();
        let none_left = || one.life().abandoned == 0;
        let at_once = becomes(CANCELLED, none_left).await;
        script.release();
        if at_once {
            return ok(format!("the cancel was answered after {}", after(began)));
        }
        if becomes(SOON, none_left).await {
            return ok("without an answer to the cancel it ended with its request; cancel() would end it sooner");
        }
        failed("it never ended: complete() its token when it is cancelled, or when what it waits for has ended")
    }

    /// Ten times in a row, while it runs and after it ended.
    pub async fn cancelled_often(&self, one: &Running) -> Found {
        let script = &self.room.script;
        let (before, restarts) = (script.requests(), one.life().restarts);
        script.hold();
        let mut waited = false;
        let cancels = async {
            tokio::select! {
                () = script.more_than(before) => waited = true,
                _ = becomes(SOON, || one.under_way() == 0) => {}
            }
            for _ in 0..OFTEN {
                one.cancel_all();
            }
            becomes(CANCELLED, || one.under_way() == 0).await;
            script.release();
        };
        let (end, ()) = tokio::join!(self.deliver(one, LIMIT), cancels);
        let again = match end {
            Ok(_) => self.deliver(one, LIMIT).await,
            Err(why) => Err(why),
        };
        match again {
            _ if !works(one) || one.life().restarts > restarts => failed(
                self.and_more("it did not survive it: a token that is cancelled may have ended already".to_owned()),
            ),
            Err(why) => failed(why),
            Ok(_) if !waited => skipped("its deliveries wait for nothing that can be held back here"),
            Ok(_) => ok(format!("{OFTEN} times are as good as one")),
        }
    }

    /// What the host does when a plugin's process dies under way.
    pub async fn killed(&self, one: &Running) -> Found {
        let script = &self.room.script;
        let (before, restarts) = (script.requests(), one.life().restarts);
        script.hold();
        let kill = async {
            tokio::select! { () = script.more_than(before) => {}, _ = becomes(SOON, || one.under_way() == 0) => {} }
            let pid = one.pid().and_then(|pid| Pid::from_raw(pid as i32));
            pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
        };
        let (_, killed) = tokio::join!(self.deliver(one, LIMIT), kill);
        script.release();
        if !killed {
            return skipped("there was no process to kill");
        }
        let began = Instant::now();
        if !becomes(LIMIT, || one.life().restarts > restarts && works(one)).await {
            return failed(self.and_more("it did not start again".to_owned()));
        }
        let again = after(began);
        let _ = script.complaint();
        match self.deliver(one, LIMIT).await {
            Ok(_) => ok(format!("it was started again after {again} and delivers")),
            Err(why) => failed(format!("started again, {why}")),
        }
    }

    /// After `destroy`: no thread, no call.
    pub fn let_go(&self, all: &[Option<&Running>]) -> Found {
        let left: Vec<_> = all.iter().flatten().filter_map(|running| running.left()).collect();
        let calls: u64 = left.iter().map(|left| left.strays).sum();
        let threads: u32 = left.iter().map(|left| left.threads).sum();
        if calls > 0 {
            return failed(format!(
                "{calls} calls to the host came after destroy() had returned, when what they point to may be gone; destroy() \
                 joins every thread first"
            ));
        }
        if threads > 0 {
            let said = format!("{threads} threads of it ran on after destroy() had returned");
            // A runtime that can't be ended is why it asks for a process.
            return match self.plugin.description().recommended_isolation.as_deref() {
                Some("process") => warned(format!("{said}; they end with its process")),
                _ => failed(format!(
                    "{said}; destroy() joins every thread, or each reload leaves some behind (a library whose runtime can't \
                     be ended says \"recommended_isolation\": \"process\")"
                )),
            };
        }
        if left.is_empty() { skipped("it did not say") } else { ok("no thread and no call came after destroy()") }
    }
}
