//! What each service takes. Titles and messages are data: nothing in them may become markup, a mention or a link in
//! disguise, and nothing may be refused for its length.

use crate::{Config, Service};
use campanile_plugin::{prelude::*, text::shortened};

/// Slack cuts messages after so many characters.
const SLACK_MAX: usize = 40_000;
/// Discord refuses more.
const DISCORD_MAX: usize = 2_000;
/// Mattermost's own limit of a post.
const MATTERMOST_MAX: usize = 16_383;
/// Teams refuses requests over 28 KB; the rest is for the card around the text.
const TEAMS_MAX: usize = 24_000;

/// `channel`: what a Mattermost webhook posts to in place of its own.
pub(crate) fn body(config: &Config, title: &str, message: &str, channel: Option<&str>) -> Value {
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    match config.service {
        Service::Slack => {
            let text = whole(&title, message, str::to_owned);
            let text = shortened(&text, SLACK_MAX, |c| slack(c).map_or(1, str::len));
            // Without markup: Slack knows no way to write a literal asterisk.
            json!({ "text": replaced(&text, slack), "mrkdwn": false })
        }
        Service::Discord => {
            let text = marked(&title, message, DISCORD_MAX, |c| if MARKDOWN.contains(c) { 2 } else { 1 });
            let mut body = json!({ "content": text, "allowed_mentions": { "parse": [] } });
            named(&mut body, config, "avatar_url");
            body
        }
        Service::Mattermost => {
            let size = |c| if MARKDOWN.contains(c) || c == '@' { 2 } else { 1 };
            // A mention ends at anything that no name has, so an invisible character takes its force.
            let text = marked(&title, message, MATTERMOST_MAX, size).replace('@', "@\u{200b}");
            let mut body = json!({ "text": text });
            named(&mut body, config, "icon_url");
            if let Some(channel) = channel {
                body["channel"] = channel.into();
            }
            body
        }
        Service::Teams => {
            let message = shortened(message, TEAMS_MAX, json_len).into_owned();
            // Text runs have no markup, unlike text blocks.
            let run = |text: &str, weight: &str| json!({ "type": "RichTextBlock", "inlines": [{ "type": "TextRun", "text": text, "weight": weight }] });
            let mut blocks = vec![run(&title, "bolder")];
            blocks.extend((!message.is_empty()).then(|| run(&message, "default")));
            json!({ "type": "message", "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard", "version": "1.4", "body": blocks,
                },
            }] })
        }
    }
}

/// Characters that mean something in Discord's and Mattermost's Markdown.
const MARKDOWN: &str = "\\`*_{}[]()<>#+-.!|~:";

/// A bold title and the message, every special character with a backslash, at most `max` in all.
fn marked(title: &str, message: &str, max: usize, size: impl Fn(char) -> usize) -> String {
    let escape = |text: &str| {
        text.chars().fold(String::new(), |mut out, c| {
            if MARKDOWN.contains(c) {
                out.push('\\');
            }
            out.push(c);
            out
        })
    };
    // Of a title so much that there is room for its asterisks and some of the message.
    let title = shortened(title, max / 4, &size);
    let used = title.chars().map(&size).sum::<usize>() + "****\n".len();
    let message = shortened(message, max.saturating_sub(used), &size);
    whole(&escape(&title), &escape(&message), |title| format!("**{title}**"))
}

fn whole(title: &str, message: &str, emphasis: impl Fn(&str) -> String) -> String {
    match (title.is_empty(), message.is_empty()) {
        (true, _) => message.to_owned(),
        (_, true) => emphasis(title),
        _ => format!("{}\n{message}", emphasis(title)),
    }
}

fn named(body: &mut Value, config: &Config, icon: &str) {
    if !config.username.is_empty() {
        body["username"] = config.username.as_str().into();
    }
    if let Some(url) = &config.icon_url {
        body[icon] = url.as_str().into();
    }
}

/// The three characters that Slack wants written as entities.
fn slack(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}

fn replaced(text: &str, entity: impl Fn(char) -> Option<&'static str>) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match entity(c) {
            Some(entity) => out.push_str(entity),
            None => out.push(c),
        }
        out
    })
}

/// Bytes of a character in JSON.
fn json_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        c if c.is_control() => 6,
        c => c.len_utf8(),
    }
}
