//! The private protocol between the host and the child process of a plugin.
//!
//! A frame is its body's length (u32), its kind (u8), a token (u64) and the body; numbers are little-endian, texts have a
//! u32 length before them. Owns: the form, and reading it as if the other side were hostile: the host's other side is.

use crate::left::Left;
use campanile_plugin::{
    HttpError, HttpReply, Level, MetricKind, OwnedDelivery,
    http::{self, HttpRequest},
    wire::{Outcome, Status},
};
use std::{io, time::Duration};

/// Both sides are one binary, or should be: a runner of another version is refused.
pub(crate) const MAJOR: u32 = 1;
pub(crate) const MINOR: u32 = 0;
/// What a side can do beyond that; a side uses only what both have.
pub(crate) const FEATURES: &[&str] = &[];
/// Largest body.
pub(crate) const BODY_MAX: usize = 1024 * 1024;
pub(crate) const HEAD: usize = 13;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    // To the child.
    Setup = 1,
    Open = 2,
    Validate = 3,
    Start = 4,
    Deliver = 5,
    Cancel = 6,
    Health = 7,
    Stop = 8,
    Destroy = 9,
    May = 10,
    HttpAnswer = 11,
    // To the host.
    Hello = 64,
    Opened = 65,
    Problems = 67,
    Complete = 68,
    Settle = 69,
    Ask = 70,
    Log = 71,
    Metric = 72,
    Http = 73,
    Gone = 74,
    Dropped = 75,
}

impl Kind {
    const ALL: [Self; 22] = [
        Self::Setup,
        Self::Open,
        Self::Validate,
        Self::Start,
        Self::Deliver,
        Self::Cancel,
        Self::Health,
        Self::Stop,
        Self::Destroy,
        Self::May,
        Self::HttpAnswer,
        Self::Hello,
        Self::Opened,
        Self::Problems,
        Self::Complete,
        Self::Settle,
        Self::Ask,
        Self::Log,
        Self::Metric,
        Self::Http,
        Self::Gone,
        Self::Dropped,
    ];
}

/// What can't be a frame, or not one of this kind.
#[derive(Debug, thiserror::Error)]
#[error("it sent what is no frame: {0}")]
pub(crate) struct BadFrame(pub &'static str);

impl From<BadFrame> for io::Error {
    fn from(bad: BadFrame) -> Self {
        Self::new(io::ErrorKind::InvalidData, bad)
    }
}

#[derive(Debug)]
pub(crate) struct Frame {
    pub kind: Kind,
    pub token: u64,
    pub body: Vec<u8>,
}

/// Kind, token and length of the body that follows.
pub(crate) fn head(bytes: [u8; HEAD]) -> Result<(Kind, u64, usize), BadFrame> {
    let [a, b, c, d, kind, token @ ..] = bytes;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len > BODY_MAX {
        return Err(BadFrame("it is longer than 1 MiB"));
    }
    let kind = Kind::ALL.into_iter().find(|k| *k as u8 == kind).ok_or(BadFrame("its kind is unknown"))?;
    Ok((kind, u64::from_le_bytes(token), len))
}

/// Writes a frame.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub fn new(kind: Kind, token: u64) -> Self {
        let mut bytes = vec![0; 4];
        bytes.push(kind as u8);
        bytes.extend(token.to_le_bytes());
        Self(bytes)
    }
    pub fn u32(mut self, n: u32) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }
    pub fn u64(mut self, n: u64) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.0.extend(bytes);
        self
    }
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }
    /// `None`: longer than a frame may be.
    pub fn done(mut self) -> Option<Vec<u8>> {
        let len = self.0.len() - HEAD;
        self.0[..4].copy_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
        (len <= BODY_MAX).then_some(self.0)
    }
}

/// Reads a body.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], BadFrame> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(BadFrame("its body is too short"))?;
        self.0 = rest;
        Ok(head)
    }
    pub fn u32(&mut self) -> Result<u32, BadFrame> {
        let bytes = self.take(4)?.try_into().map_err(|_| BadFrame("its body is too short"))?;
        Ok(u32::from_le_bytes(bytes))
    }
    pub fn u64(&mut self) -> Result<u64, BadFrame> {
        let bytes = self.take(8)?.try_into().map_err(|_| BadFrame("its body is too short"))?;
        Ok(u64::from_le_bytes(bytes))
    }
    pub fn bytes(&mut self) -> Result<&'a [u8], BadFrame> {
        let len = self.u32()? as usize;
        self.take(len)
    }
    pub fn text(&mut self) -> Result<String, BadFrame> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
    pub fn end(self) -> Result<(), BadFrame> {
        if self.0.is_empty() { Ok(()) } else { Err(BadFrame("its body is too long")) }
    }
}

/// The first frame to a child: who we are and what it may use.
pub(crate) fn setup(memory: u64, files: u64) -> Option<Vec<u8>> {
    let hello = Writer::new(Kind::Setup, 0).u32(MAJOR).u32(MINOR).text(&FEATURES.join(" "));
    hello.u64(memory).u64(files).done()
}

/// The first frame of a child.
pub(crate) fn hello() -> Option<Vec<u8>> {
    Writer::new(Kind::Hello, 0).u32(MAJOR).u32(MINOR).text(&FEATURES.join(" ")).done()
}

pub(crate) fn deliver(items: &[(u64, OwnedDelivery)]) -> Option<Vec<u8>> {
    let mut out = Writer::new(Kind::Deliver, 0).u32(u32::try_from(items.len()).ok()?);
    for (token, d) in items {
        out = out.u64(*token).u32(d.attempt).u64(u64::try_from(d.timeout.as_millis()).unwrap_or(u64::MAX));
        let texts = [&d.delivery_id, &d.idempotency_key, &d.recipient, &d.subject, &d.text, &d.html, &d.traceparent];
        for text in texts {
            out = out.text(text);
        }
        out = out.text(&d.borrow(&true).message_json());
    }
    out.done()
}

pub(crate) fn read_deliver(body: &[u8]) -> Result<Vec<(u64, OwnedDelivery)>, BadFrame> {
    let mut r = Reader(body);
    let items = (0..r.u32()?)
        .map(|_| {
            let (token, attempt, timeout) = (r.u64()?, r.u32()?, Duration::from_millis(r.u64()?));
            let item = OwnedDelivery {
                attempt,
                timeout,
                delivery_id: r.text()?,
                idempotency_key: r.text()?,
                recipient: r.text()?,
                subject: r.text()?,
                text: r.text()?,
                html: r.text()?,
                traceparent: r.text()?,
                message: r.text()?.into(),
            };
            Ok((token, item))
        })
        .collect::<Result<Vec<_>, BadFrame>>()?;
    r.end()?;
    Ok(items)
}

/// As the plugin gave it, trusted no further than [`Outcome::read`] does.
pub(crate) fn outcome(kind: Kind, token: u64, o: &Outcome) -> Option<Vec<u8>> {
    let out = Writer::new(kind, token).u32(o.status as u32).u64(o.retry_after_ms());
    out.text(&o.code).text(&o.message).text(o.provider_id.as_deref().unwrap_or_default()).text(&o.detail_json()).done()
}

pub(crate) fn read_outcome(body: &[u8]) -> Result<Outcome, BadFrame> {
    let mut r = Reader(body);
    let outcome = Outcome::read(r.u32()?, r.u64()?, r.bytes()?, r.bytes()?, r.bytes()?, r.bytes()?);
    r.end()?;
    Ok(outcome)
}

/// An outcome that doesn't fit is replaced by one that says so.
pub(crate) fn too_large() -> Outcome {
    Outcome::new(Status::Internal, "too_large", "the outcome does not fit into a frame")
}

pub(crate) fn log(token: u64, level: Level, target: &str, message: &str, fields: &str) -> Option<Vec<u8>> {
    Writer::new(Kind::Log, token).u32(level as u32).text(target).text(message).text(fields).done()
}

pub(crate) fn metric(kind: MetricKind, name: &str, value: f64, labels: &[(&str, &str)]) -> Option<Vec<u8>> {
    let out = Writer::new(Kind::Metric, 0).u32(kind as u32).u64(value.to_bits()).text(name);
    let out = out.u32(u32::try_from(labels.len()).ok()?);
    labels.iter().fold(out, |out, (k, v)| out.text(k).text(v)).done()
}

pub(crate) struct Measured {
    pub kind: MetricKind,
    pub value: f64,
    pub name: String,
    pub labels: Vec<(String, String)>,
}

pub(crate) fn read_metric(body: &[u8]) -> Result<Measured, BadFrame> {
    let mut r = Reader(body);
    let kind = MetricKind::from_number(r.u32()?).ok_or(BadFrame("a metric of no kind"))?;
    let (value, name) = (f64::from_bits(r.u64()?), r.text()?);
    let labels = (0..r.u32()?).map(|_| Ok((r.text()?, r.text()?))).collect::<Result<Vec<_>, BadFrame>>()?;
    r.end()?;
    Ok(Measured { kind, value, name, labels })
}

/// Lines and samples that were too many.
pub(crate) fn dropped(lines: u64, samples: u64) -> Option<Vec<u8>> {
    Writer::new(Kind::Dropped, 0).u64(lines).u64(samples).done()
}

pub(crate) fn read_dropped(body: &[u8]) -> Result<(u64, u64), BadFrame> {
    let mut r = Reader(body);
    let dropped = (r.u64()?, r.u64()?);
    r.end()?;
    Ok(dropped)
}

pub(crate) fn gone(left: Left) -> Option<Vec<u8>> {
    Writer::new(Kind::Gone, 0).u32(left.threads).u64(left.strays).done()
}

pub(crate) fn read_gone(body: &[u8]) -> Result<Left, BadFrame> {
    let mut r = Reader(body);
    let left = Left { threads: r.u32()?, strays: r.u64()? };
    r.end()?;
    Ok(left)
}

pub(crate) fn http(id: u64, request: &HttpRequest) -> Option<Vec<u8>> {
    let timeout = request.timeout.map_or(u64::MAX, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
    let out = Writer::new(Kind::Http, id).u64(timeout).text(&request.method).text(&request.url);
    out.text(&http::headers_json(&request.headers)).bytes(&request.body).done()
}

pub(crate) fn read_http(body: &[u8]) -> Result<HttpRequest, BadFrame> {
    let mut r = Reader(body);
    let timeout = r.u64()?;
    let mut request = HttpRequest::new(r.text()?, r.text()?);
    request.timeout = (timeout != u64::MAX).then(|| Duration::from_millis(timeout));
    request.headers = http::headers(r.bytes()?);
    request.body = r.bytes()?.to_vec();
    r.end()?;
    Ok(request)
}

pub(crate) fn http_answer(id: u64, answer: &Result<HttpReply, HttpError>) -> Option<Vec<u8>> {
    let out = Writer::new(Kind::HttpAnswer, id);
    match answer {
        Ok(reply) => {
            let out = out.u32(reply.status.into()).text(&http::headers_json(&reply.headers));
            out.bytes(&reply.body).text("").done()
        }
        Err(error) => out.u32(0).text("").bytes(&[]).text(&error.to_string()).done(),
    }
}

pub(crate) fn read_http_answer(body: &[u8]) -> Result<Result<HttpReply, HttpError>, BadFrame> {
    let mut r = Reader(body);
    let (status, headers, body, error) = (r.u32()?, r.bytes()?, r.bytes()?, r.text()?);
    r.end()?;
    if status == 0 {
        return Ok(Err(HttpError::parse(&error)));
    }
    let mut reply = HttpReply::new(u16::try_from(status).unwrap_or(599), body);
    reply.headers = http::headers(headers);
    Ok(Ok(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(frame: &[u8]) -> (Kind, u64, &[u8]) {
        let (kind, token, len) = head(frame[..HEAD].try_into().unwrap()).unwrap();
        assert_eq!(frame.len(), HEAD + len);
        (kind, token, &frame[HEAD..])
    }

    #[test]
    fn what_is_written_is_read() {
        let item = OwnedDelivery {
            delivery_id: "d".into(),
            recipient: "r".into(),
            attempt: 3,
            timeout: Duration::from_millis(1500),
            message: "{\"a\":1}".to_owned().into(),
            html: "<b>ü</b>".into(),
            ..OwnedDelivery::default()
        };
        let frame = deliver(&[(7, item.clone()), (8, item)]).unwrap();
        let (kind, _, body) = split(&frame);
        let items = read_deliver(body).unwrap();
        assert_eq!((kind, items.len(), items[1].0, items[0].1.html.as_str()), (Kind::Deliver, 2, 8, "<b>ü</b>"));
        assert_eq!(items[0].1.borrow(&true).message()["a"], 1);

        let mut told = Outcome::new(Status::Throttled, "busy", "later");
        told.retry_after = Some(Duration::from_secs(3));
        told.detail = Some(serde_json::json!({ "a": [1] }));
        let frame = outcome(Kind::Complete, 9, &told).unwrap();
        let (kind, token, body) = split(&frame);
        assert_eq!((kind, token, read_outcome(body).unwrap()), (Kind::Complete, 9, told));

        let mut request = HttpRequest::new("POST", "https://x");
        request.headers.insert("a".into(), "b".into());
        request.body = vec![0, 255];
        assert!(read_http(split(&http(1, &request).unwrap()).2).unwrap() == request);
        let reply = Ok(HttpReply::new(201, "x").with_header("a", "b"));
        assert_eq!(read_http_answer(split(&http_answer(1, &reply).unwrap()).2).unwrap(), reply);
        let refused = Err(HttpError::new(http::HttpErrorKind::Refused, "no"));
        assert_eq!(read_http_answer(split(&http_answer(1, &refused).unwrap()).2).unwrap(), refused);

        let left = Left { threads: 3, strays: 1 << 40 };
        assert_eq!(read_gone(split(&gone(left).unwrap()).2).unwrap(), left);
        assert_eq!(read_dropped(split(&dropped(7, 1 << 40).unwrap()).2).unwrap(), (7, 1 << 40));

        let frame = metric(MetricKind::Gauge, "n", f64::NAN, &[("k", "v")]).unwrap();
        let measured = read_metric(split(&frame).2).unwrap();
        assert!(measured.value.is_nan() && measured.labels == [("k".to_owned(), "v".to_owned())]);
    }

    #[test]
    fn lies_about_lengths_and_kinds_are_seen() {
        let mut bytes = [0; HEAD];
        bytes[4] = Kind::Log as u8;
        assert!(head(bytes).is_ok());
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(head(bytes).unwrap_err().to_string().contains("longer than 1 MiB"));
        assert!(head([0; HEAD]).unwrap_err().to_string().contains("unknown"));
        assert!(Writer::new(Kind::Log, 0).bytes(&vec![0; BODY_MAX]).done().is_none());
        // Counts and lengths far beyond the body neither panic nor reserve memory.
        let lie = u32::MAX.to_le_bytes();
        assert!(read_deliver(&lie).is_err() && read_outcome(&lie).is_err() && read_metric(&lie).is_err());
        assert!(read_gone(&lie).is_err() && read_dropped(&[lie; 5].concat()).is_err());
        assert!(read_http(&[lie; 8].concat()).is_err() && read_http_answer(&[lie; 2].concat()).is_err());
        let good = deliver(&[(1, OwnedDelivery::default())]).unwrap();
        for cut in HEAD..good.len() {
            assert!(read_deliver(&good[HEAD..cut]).is_err(), "cut at {cut}");
        }
        assert!(read_deliver(&[&good[HEAD..], &[0]].concat()).is_err(), "something after the end");
    }
}
