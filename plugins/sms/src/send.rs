//! One request, and what its answer means.

use crate::{
    Sms, codes,
    config::{Auth, Custom, is_number},
    segments::{cut, segments},
    template::{self, Values},
};
use campanile_plugin::prelude::*;

impl Sms {
    pub(crate) async fn send(&self, d: &Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let to = d.recipient();
        if !is_number(to) {
            let why = "the address must be a number with its country: + and 7 to 15 digits";
            return Err(DeliveryError::permanent(Reason::new("unsupported_address", why)));
        }
        let whole = match (d.subject().is_empty(), d.text().is_empty()) {
            (_, true) => d.subject().to_owned(),
            (true, _) => d.text().to_owned(),
            _ => format!("{}: {}", d.subject(), d.text()),
        };
        let text = cut(&whole, usize::from(self.config.max_segments));
        let values = Values {
            to,
            from: &self.config.from,
            text: &text,
            account: &self.config.account,
            token: self.config.token.expose(),
            id: d.idempotency_key(),
        };
        let detail = json!({ "segments": segments(&text) });
        match &self.config.custom {
            None => read_twilio(self.twilio(&values).send().await?, detail),
            Some(custom) => read_custom(custom, self.custom(custom, &values).send().await?, detail),
        }
    }

    fn twilio(&self, v: &Values<'_>) -> campanile_plugin::http::RequestBuilder {
        let path = format!("2010-04-01/Accounts/{}/Messages.json", self.config.account);
        let sender = if v.from.len() == 34 && v.from.starts_with("MG") { "MessagingServiceSid" } else { "From" };
        self.http.post(self.config.api_url.join(&path)).basic(v.account, &self.config.token).form([
            ("To", v.to),
            (sender, v.from),
            ("Body", v.text),
        ])
    }

    fn custom(&self, custom: &Custom, v: &Values<'_>) -> campanile_plugin::http::RequestBuilder {
        let request = self.http.post(template::url(&custom.url, v));
        let request = match custom.auth {
            Auth::Basic => request.basic(v.account, &self.config.token),
            Auth::Bearer => request.bearer(&self.config.token),
            Auth::Header => request.header(&custom.auth_header, v.token),
            Auth::None => request,
        };
        if let Some(body) = &custom.json {
            return request.json(&template::json(body, v));
        }
        let filled: Vec<_> = custom.form.iter().map(|(k, t)| (k.as_str(), template::plain(t, v))).collect();
        request.form(filled.iter().map(|(k, v)| (*k, v.as_str())))
    }
}

fn read_twilio(reply: HttpReply, detail: Value) -> Result<Receipt, DeliveryError> {
    #[derive(Default, Deserialize)]
    struct Answer {
        sid: Option<String>,
        code: Option<u64>,
        error_code: Option<u64>,
        message: Option<String>,
    }
    if reply.is_success() {
        let answer: Answer = reply.json()?;
        let Some(sid) = answer.sid else {
            return Err(DeliveryError::retry(Reason::new("bad_answer", "the answer names no message").uncertain()));
        };
        return match answer.error_code.and_then(codes::twilio) {
            None => Ok(Receipt::new().provider_id(sid).detail(detail)),
            Some(class) => Err(class.error(None, Reason::new("twilio_error", answer.message.unwrap_or_default()))),
        };
    }
    let answer: Answer = serde_json::from_slice(&reply.body).unwrap_or_default();
    if let Some(code) = answer.code
        && let Some(class) = codes::twilio(code)
    {
        let said = answer.message.unwrap_or_default();
        return Err(
            class.error(reply.retry_after(), Reason::new(format!("twilio_{code}"), format!("Twilio said: {said}")))
        );
    }
    not_accepted(reply)
}

fn read_custom(custom: &Custom, reply: HttpReply, detail: Value) -> Result<Receipt, DeliveryError> {
    let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let at = |pointer: &str| match answer.pointer(pointer).filter(|_| !pointer.is_empty()) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    if let Some(code) = at(&custom.code_pointer)
        && let Some(class) = custom.codes.get(&code)
    {
        return Err(class.error(reply.retry_after(), Reason::new(format!("code_{code}"), reply.reason().message)));
    }
    if !reply.is_success() {
        return not_accepted(reply);
    }
    match at(&custom.id_pointer) {
        Some(id) => Ok(Receipt::new().provider_id(id).detail(detail)),
        None if custom.id_pointer.is_empty() => Ok(Receipt::new().detail(detail)),
        None => {
            let why = format!("there is no message's id at {} of the answer", custom.id_pointer);
            Err(DeliveryError::retry(Reason::new("bad_answer", why).uncertain()))
        }
    }
}

/// By the status. A number that is gone has a code; a path that is gone is our configuration.
fn not_accepted(reply: HttpReply) -> Result<Receipt, DeliveryError> {
    match reply.status {
        404 | 410 => Err(DeliveryError::misconfigured(reply.reason())),
        _ => Receipt::from_http(reply),
    }
}
