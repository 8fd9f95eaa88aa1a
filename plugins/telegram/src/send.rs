//! One request, and what its answer means.

use crate::{Format, Telegram, config::is_chat};
use campanile_plugin::{prelude::*, text::shortened};
use std::borrow::Cow;

/// In UTF-16 units, after markup is taken away.
const TEXT_MAX: usize = 4096;

/// What every call answers, whatever its status.
#[derive(Deserialize)]
struct Answer {
    ok: bool,
    result: Option<Message>,
    error_code: Option<u16>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Message {
    message_id: i64,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

impl Telegram {
    pub(crate) async fn send(&self, d: &Delivery<'_>) -> Result<Receipt, DeliveryError> {
        if !is_chat(d.recipient()) {
            let why = "the address must be a chat's number, or @ and the name of a public group or channel";
            return Err(DeliveryError::permanent(Reason::new("unsupported_address", why)));
        }
        let url = self.config.api_url.join(&format!("bot{}/sendMessage", self.config.token.expose()));
        read(self.http.post(url).json(&self.body(d)).send().await?)
    }

    fn body(&self, d: &Delivery<'_>) -> Value {
        let title = d.subject().split_whitespace().collect::<Vec<_>>().join(" ");
        let title = shortened(&title, TEXT_MAX / 4, char::len_utf16);
        let used = title.encode_utf16().count() + 1;
        let text = shortened(d.text(), TEXT_MAX - used, char::len_utf16);
        let lines = |title: Cow<'_, str>, text: Cow<'_, str>| match (title.is_empty(), text.is_empty()) {
            (true, _) => text.into_owned(),
            (_, true) => title.into_owned(),
            _ => format!("{title}\n{text}"),
        };
        let mut body = json!({
            "chat_id": d.recipient(),
            "link_preview_options": { "is_disabled": !self.config.link_preview },
        });
        body["text"] = match self.config.format {
            Format::Plain => lines(title, text),
            Format::Bold => {
                body["parse_mode"] = "HTML".into();
                let title = escaped(&title);
                let title = if title.is_empty() { title } else { format!("<b>{title}</b>") };
                lines(title.into(), escaped(&text).into())
            }
        }
        .into();
        if self.config.low_is_silent && d.message()["priority"] == "low" {
            body["disable_notification"] = true.into();
        }
        body
    }
}

/// Only these three mean something to Telegram.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn read(reply: HttpReply) -> Result<Receipt, DeliveryError> {
    let Ok(answer) = serde_json::from_slice::<Answer>(&reply.body) else {
        // Not the Bot API: a proxy, or an API that is down.
        let reply = reply.check()?;
        return Err(reply.json::<Answer>().err().unwrap_or_else(|| unreachable!("it could not be read before")));
    };
    if let (true, Some(message)) = (answer.ok, &answer.result) {
        return Ok(Receipt::new().provider_id(message.message_id.to_string()));
    }
    if answer.ok {
        return Err(DeliveryError::retry(Reason::new("bad_answer", "the answer names no message").uncertain()));
    }
    let status = answer.error_code.unwrap_or(reply.status);
    let reason = Reason::new(format!("telegram_{status}"), format!("Telegram said: {}", answer.description));
    let after = answer.parameters.retry_after.map(Duration::from_secs);
    let said = answer.description.to_ascii_lowercase();
    Err(match status {
        429 => DeliveryError::throttled(after.or_else(|| reply.retry_after()), reason),
        400 | 403 if answer.parameters.migrate_to_chat_id.is_some() => {
            let to = answer.parameters.migrate_to_chat_id;
            DeliveryError::recipient_gone(Reason {
                message: "the group became a supergroup and has a new number".into(),
                ..reason.detail(json!({ "migrate_to_chat_id": to }))
            })
        }
        // Blocked, kicked, deactivated, never begun: this chat takes nothing from this bot.
        403 => DeliveryError::recipient_gone(reason),
        400 if said.contains("chat not found") || said.contains("user not found") => {
            DeliveryError::recipient_gone(reason)
        }
        // The path carries the token: a wrong one is not found.
        401 | 404 => DeliveryError::misconfigured(Reason {
            message: format!("the bot's token is refused ({})", reason.message),
            ..reason
        }),
        408 | 409 | 500.. => DeliveryError::retry(reason),
        _ => DeliveryError::permanent(reason),
    })
}
