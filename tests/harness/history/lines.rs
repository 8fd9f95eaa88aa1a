//! A history as lines of JSON: one event a line, so that a run can be kept, read by eye and judged again.

use super::{
    Arrival, CountsShown, Ending, History, IdleSockets, Mail, Marked, Output, Owned, Post, Recovery, Secret, Sighting,
    StateSeen, Terms,
};
use crate::db::{Attempt, Delivery, FeedRow, UserState};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};
use uuid::Uuid;

#[derive(Serialize, Deserialize)]
#[serde(tag = "event", content = "of", rename_all = "snake_case")]
enum Line {
    Terms(Terms),
    Post(Post),
    Arrival(Arrival),
    Ending(Ending),
    CompleteDevice(String, String),
    Counts(CountsShown),
    Mark(Marked),
    Mail(Mail),
    State(StateSeen),
    Owner(Owned),
    Sighting(Sighting),
    Secret(Secret),
    Output(Output),
    IdleSockets(IdleSockets),
    Recovery(Recovery),
    EndNotification(Uuid, String),
    EndDelivery(Delivery),
    EndAttempt(Attempt),
    EndFeed(FeedRow),
    EndUser(UserState),
    EndReplay(String),
    EndClock(i64),
}

impl History {
    /// Writes one event a line.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for line in self.lines() {
            serde_json::to_writer(&mut file, &line)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }

    /// Reads what [`Self::save`] wrote.
    pub fn load(path: &Path) -> io::Result<Self> {
        let mut history = Self::default();
        for line in BufReader::new(File::open(path)?).lines() {
            history.add(serde_json::from_str(&line?)?);
        }
        Ok(history)
    }

    fn lines(&self) -> impl Iterator<Item = Line> {
        let end = &self.end;
        std::iter::once(Line::Terms(self.terms.clone()))
            .chain(self.posts.iter().cloned().map(Line::Post))
            .chain(self.arrivals.iter().cloned().map(Line::Arrival))
            .chain(self.endings.iter().cloned().map(Line::Ending))
            .chain(self.complete_devices.iter().cloned().map(|(device, user)| Line::CompleteDevice(device, user)))
            .chain(self.counts.iter().cloned().map(Line::Counts))
            .chain(self.marks.iter().cloned().map(Line::Mark))
            .chain(self.mails.iter().cloned().map(Line::Mail))
            .chain(self.states.iter().cloned().map(Line::State))
            .chain(self.owners.iter().cloned().map(Line::Owner))
            .chain(self.sightings.iter().cloned().map(Line::Sighting))
            .chain(self.secrets.iter().cloned().map(Line::Secret))
            .chain(self.outputs.iter().cloned().map(Line::Output))
            .chain(self.idle_sockets.iter().cloned().map(Line::IdleSockets))
            .chain(self.recoveries.iter().cloned().map(Line::Recovery))
            .chain(end.notifications.iter().map(|(id, title)| Line::EndNotification(*id, title.clone())))
            .chain(end.deliveries.iter().cloned().map(Line::EndDelivery))
            .chain(end.attempts.iter().cloned().map(Line::EndAttempt))
            .chain(end.feed.iter().cloned().map(Line::EndFeed))
            .chain(end.users.iter().cloned().map(Line::EndUser))
            .chain(end.replays.iter().cloned().map(Line::EndReplay))
            .chain(std::iter::once(Line::EndClock(end.now_ms)))
    }

    fn add(&mut self, line: Line) {
        let end = &mut self.end;
        match line {
            Line::Terms(terms) => self.terms = terms,
            Line::Post(post) => self.posts.push(post),
            Line::Arrival(arrival) => self.arrivals.push(arrival),
            Line::Ending(ending) => self.endings.push(ending),
            Line::CompleteDevice(device, user) => self.complete_devices.push((device, user)),
            Line::Counts(counts) => self.counts.push(counts),
            Line::Mark(mark) => self.marks.push(mark),
            Line::Mail(mail) => self.mails.push(mail),
            Line::State(state) => self.states.push(state),
            Line::Owner(owner) => self.owners.push(owner),
            Line::Sighting(sighting) => self.sightings.push(sighting),
            Line::Secret(secret) => self.secrets.push(secret),
            Line::Output(output) => self.outputs.push(output),
            Line::IdleSockets(idle) => self.idle_sockets.push(idle),
            Line::Recovery(recovery) => self.recoveries.push(recovery),
            Line::EndNotification(id, title) => drop(end.notifications.insert(id, title)),
            Line::EndDelivery(row) => end.deliveries.push(row),
            Line::EndAttempt(row) => end.attempts.push(row),
            Line::EndFeed(row) => end.feed.push(row),
            Line::EndUser(row) => end.users.push(row),
            Line::EndReplay(target) => end.replays.push(target),
            Line::EndClock(now) => end.now_ms = now,
        }
    }
}
