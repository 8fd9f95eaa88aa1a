//! A delivery in the form of a mail. Headers go through lettre's encoding setters only.

use crate::{address, dkim::Dkim};
use campanile_plugin::{Delivery, DeliveryError, Reason};
use lettre::message::{
    Mailbox, Message, MultiPart, SinglePart,
    header::{Header, HeaderName, HeaderValue},
};
use serde_json::Value;
use std::{error::Error, sync::Arc};

/// A longer subject is cut: no client shows more, and one header line must stay under 998 bytes.
const SUBJECT_MAX: usize = 255;

macro_rules! header {
    ($type:ident, $name:literal) => {
        #[derive(Clone)]
        struct $type(String);
        impl Header for $type {
            fn name() -> HeaderName {
                HeaderName::new_from_ascii_str($name)
            }
            fn parse(s: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
                Ok(Self(s.to_owned()))
            }
            fn display(&self) -> HeaderValue {
                HeaderValue::new(Self::name(), self.0.clone())
            }
        }
    };
}
header!(AutoSubmitted, "Auto-Submitted");
header!(ListUnsubscribe, "List-Unsubscribe");
header!(ListUnsubscribePost, "List-Unsubscribe-Post");
header!(FeedbackId, "Feedback-ID");

/// What a mail is made from, owned: the send outlives the caller's borrow.
#[derive(Clone, Debug)]
pub struct Letter {
    delivery_id: String,
    recipient: String,
    subject: String,
    text: String,
    html: String,
    unsubscribe_url: Option<String>,
    feedback_id: String,
}

impl Letter {
    pub fn new(d: &Delivery<'_>) -> Self {
        let word = |key| d.message().get(key).and_then(Value::as_str).unwrap_or_default();
        Self {
            delivery_id: d.delivery_id().to_owned(),
            recipient: d.recipient().to_owned(),
            subject: d.subject().to_owned(),
            text: d.text().to_owned(),
            html: d.html().to_owned(),
            unsubscribe_url: Some(word("unsubscribe_url")).filter(|u| is_header_url(u)).map(str::to_owned),
            feedback_id: format!("{}:{}:email:campanile", plain(word("notification_type")), plain(word("app"))),
        }
    }
}

/// A finished mail: envelope and source.
#[derive(Clone, Debug)]
pub struct Mail {
    pub sender: String,
    pub recipient: String,
    /// The recipient's local part is not ASCII.
    pub needs_utf8: bool,
    pub message_id: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub source: Vec<u8>,
}

/// Turns letters into mails.
#[derive(Clone)]
pub struct Composer {
    pub from: Mailbox,
    pub reply_to: Option<Mailbox>,
    pub dkim: Option<Arc<Dkim>>,
}

impl Composer {
    pub fn compose(&self, letter: Letter) -> Result<Mail, DeliveryError> {
        let permanent = |code: &'static str, text: String| DeliveryError::Permanent { reason: Reason::new(code, text) };
        let to = address::parse(&letter.recipient)
            // The text may quote characters of the address, so it stays out.
            .map_err(|_| permanent("invalid_address", "the recipient is not a mail address".into()))?;
        let message_id = format!("<{}@{}>", plain(&letter.delivery_id), self.from.email.domain());
        let subject = one_line(&letter.subject);
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(subject.clone())
            .date_now()
            .message_id(Some(message_id.clone()))
            .header(AutoSubmitted("auto-generated".into()))
            .header(FeedbackId(letter.feedback_id));
        if let Some(reply_to) = &self.reply_to {
            message = message.reply_to(reply_to.clone());
        }
        if let Some(url) = &letter.unsubscribe_url {
            message = message
                .header(ListUnsubscribe(format!("<{url}>")))
                .header(ListUnsubscribePost("List-Unsubscribe=One-Click".into()));
        }
        let mut text = body(&letter.text);
        if text.trim().is_empty() {
            // An empty body is nothing to read, and lettre signs it wrongly.
            text = format!("{}\n", if subject.is_empty() { "(no text)" } else { &subject });
        }
        let text = SinglePart::plain(text);
        let built = if letter.html.trim().is_empty() {
            message.singlepart(text)
        } else {
            let html = SinglePart::html(body(&letter.html));
            message.multipart(MultiPart::alternative().singlepart(text).singlepart(html))
        };
        let mut message = built.map_err(|e| permanent("unbuildable", format!("the mail can't be built: {e}")))?;
        if let Some(dkim) = &self.dkim {
            dkim.sign(&mut message);
        }
        Ok(Mail {
            sender: self.from.email.to_string(),
            needs_utf8: !to.user().is_ascii(),
            recipient: to.to_string(),
            message_id,
            subject,
            text: letter.text,
            html: letter.html,
            source: message.formatted(),
        })
    }
}

/// One line, no control characters, not too long.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(SUBJECT_MAX).collect()
}

/// Lines that end in LF (lettre makes them CRLF, but lets a lone CR pass), and no control characters.
fn body(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Letters, digits and `.-_`, at most 64: safe anywhere in a header.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).take(64).collect()
}

/// Short enough for one line, and nothing that ends `<…>`.
fn is_header_url(url: &str) -> bool {
    (url.starts_with("https://") || url.starts_with("http://"))
        && url.len() <= 900
        && url.bytes().all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>')
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_plugin::Secret;
    use proptest::prelude::*;
    use serde_json::json;

    fn composer() -> Composer {
        Composer {
            from: address::parse_mailbox("Glockenturm Köln <notify@köln.example>").unwrap(),
            reply_to: None,
            dkim: None,
        }
    }

    fn letter(recipient: &str, subject: &str, text: &str, html: &str, message: &Value) -> Letter {
        let delivery = Delivery::new("0190c0de-0000-7000-8000-000000000001", recipient);
        Letter::new(&delivery.with_content(subject, text, html).with_message(message))
    }

    fn source(mail: &Mail) -> String {
        String::from_utf8(mail.source.clone()).unwrap()
    }

    /// Header lines, unfolded.
    fn headers(source: &str) -> Vec<String> {
        let head = source.split_once("\r\n\r\n").unwrap().0.replace("\r\n ", " ");
        head.split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn a_mail_has_what_it_needs() {
        let message = json!({"notification_type": "new message", "app": "default", "unsubscribe_url": "https://x.example/unsubscribe/abc"});
        let mail =
            composer().compose(letter("ada@Bücher.example", "Grüße", "Hallo\n", "<p>Hallo</p>", &message)).unwrap();
        let source = source(&mail);
        let headers = headers(&source);
        let has = |h: &str| assert!(headers.iter().any(|l| l == h), "{h}\n{source}");
        has("Message-ID: <0190c0de-0000-7000-8000-000000000001@xn--kln-sna.example>");
        has("To: ada@xn--bcher-kva.example");
        has("Auto-Submitted: auto-generated");
        has("List-Unsubscribe: <https://x.example/unsubscribe/abc>");
        has("List-Unsubscribe-Post: List-Unsubscribe=One-Click");
        has("Feedback-ID: new-message:default:email:campanile");
        has("Subject: =?utf-8?b?R3LDvMOfZQ==?=");
        has("MIME-Version: 1.0");
        assert!(headers.iter().any(|l| l.starts_with("Date: ")));
        assert!(source.find("text/plain").unwrap() < source.find("text/html").unwrap());
        assert!(source.contains("multipart/alternative"));
        assert!(!mail.needs_utf8 && mail.source.is_ascii());
    }

    #[test]
    fn transactional_mail_carries_no_unsubscribe() {
        let mail = composer().compose(letter("ada@example.org", "s", "t", "", &json!({}))).unwrap();
        assert!(!source(&mail).contains("List-Unsubscribe"));
        assert!(!source(&mail).contains("multipart"));
    }

    #[test]
    fn the_message_id_is_the_same_on_every_attempt() {
        let make = || composer().compose(letter("ada@example.org", "s", "t", "h", &json!({}))).unwrap().message_id;
        assert_eq!(make(), make());
    }

    #[test]
    fn a_local_part_outside_ascii_needs_utf8() {
        assert!(composer().compose(letter("jürgen@example.org", "s", "t", "", &json!({}))).unwrap().needs_utf8);
    }

    #[test]
    fn a_bad_recipient_is_permanent_and_never_quoted() {
        let e = composer().compose(letter("eve@x.org\r\nRCPT TO:<a@b.c>", "s", "t", "", &json!({}))).unwrap_err();
        assert!(matches!(&e, DeliveryError::Permanent { reason } if reason.code == "invalid_address"));
        assert!(!e.to_string().contains("eve"));
    }

    #[test]
    fn the_signature_covers_what_it_must() {
        let key = Secret::new(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7u8; 32]));
        let dkim = Dkim::new("tower", "example.org", &key).unwrap();
        let composer = Composer { dkim: Some(Arc::new(dkim)), ..composer() };
        let source = source(&composer.compose(letter("ada@example.org", "s", "t", "h", &json!({}))).unwrap());
        let signature = headers(&source).into_iter().find(|h| h.starts_with("DKIM-Signature: ")).unwrap();
        let covered = signature.split("h=").nth(1).unwrap().split(';').next().unwrap().to_owned();
        for name in ["from", "to", "subject", "date", "message-id", "list-unsubscribe", "list-unsubscribe-post"] {
            assert!(covered.split(':').any(|h| h.trim() == name), "{name} in {covered}");
        }
        // What comes after the signature lettre did not see when it signed: none of it may be covered.
        let unseen = headers(&source).into_iter().skip_while(|h| !h.starts_with("DKIM-Signature: ")).skip(1);
        for header in unseen {
            let name = header.split(':').next().unwrap().to_ascii_lowercase();
            assert!(!covered.split(':').any(|h| h.trim() == name), "{name} in {covered}");
        }
    }

    proptest! {
        #[test]
        fn no_input_adds_a_header_or_a_long_line(
            subject in "(?s)[\\r\\n\\t .:a-zé<>@🎉\u{0}-\u{8}]{0,400}",
            text in "(?s)[\\r\\n .a-zé🎉]{0,1500}",
            kind in "(?s)[\\r\\n :a-zé]{0,100}",
            url in "(?s)https://[\\r\\n <>a-zé]{0,60}",
        ) {
            let message = json!({"notification_type": kind, "app": kind, "unsubscribe_url": url});
            let mail = composer().compose(letter("ada@example.org", &subject, &text, &text, &message)).unwrap();
            let source = source(&mail);
            for line in source.split("\r\n") {
                prop_assert!(line.len() <= 998);
                prop_assert!(!line.contains(['\r', '\n']));
            }
            let known = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Feedback-ID", "MIME-Version",
                "Content-Type", "Content-Transfer-Encoding", "List-Unsubscribe", "List-Unsubscribe-Post"];
            let mut seen = std::collections::HashSet::new();
            for header in headers(&source) {
                let name = header.split(':').next().unwrap().to_owned();
                prop_assert!(known.contains(&name.as_str()), "{}", header);
                prop_assert!(seen.insert(name));
            }
        }
    }
}
