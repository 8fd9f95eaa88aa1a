//! An hour of made-up traffic with a channel that begins to fail: what the tests draw.

use super::*;
use crate::sentence::{Part, Tone};

fn wave(n: usize, base: f64, swing: f64) -> Vec<Option<f64>> {
    (0..n)
        .map(|i| {
            let x = i as f64;
            Some(base + swing * ((x / 17.0).sin() + 0.4 * (x / 5.0).cos() + 0.2 * (x * 1.7).sin()))
        })
        .collect()
}

fn rising(n: usize, base: f64, from: usize, step: f64) -> Vec<Option<f64>> {
    (0..n).map(|i| Some(base + i.saturating_sub(from) as f64 * step)).collect()
}

pub fn series() -> Series {
    let start = "2026-11-22T13:22:20Z".parse().unwrap();
    Series {
        start,
        bucket_ms: 20_000,
        accepted: wave(180, 330.0, 20.0),
        delivered: wave(180, 320.0, 20.0),
        failed: rising(180, 0.6, 135, 0.1),
        retried: rising(180, 0.8, 135, 0.12),
        depth: vec![
            ("websocket".into(), vec![Some(0.0); 180]),
            ("email".into(), wave(180, 150.0, 20.0)),
            ("webhook".into(), rising(180, 60.0, 135, 21.0)),
        ],
        marks: vec![Mark {
            at: start + TimeDelta::seconds(135 * 20),
            subject: "webhook".into(),
            what: "503s begin".into(),
        }],
    }
}

pub fn overview() -> Overview {
    let series = series();
    let range = crate::pages::range::Range::Hour1;
    let row = |name: &str, health, success, oldest_late| ChannelRow {
        name: name.into(),
        paused: health == Health::Paused,
        open: health == Health::Degraded,
        about: "linked in".into(),
        health,
        health_text: format!("{health:?}"),
        rate: "66.9".into(),
        spark: Spark::of(&wave(30, 60.0, 4.0)),
        success,
        p95: "412 ms".into(),
        queued: "183".into(),
        oldest: "41 s".into(),
        oldest_late,
    };
    let tile = |label, tone, value: &str, unit| Tile {
        href: "/admin/connections",
        label,
        figure: Figure { value: value.into(), unit },
        notes: vec![("", "9,310 users".into()), ("warn", "webhook 93.8 %".into())],
        spark: Spark::of(&wave(60, 100.0, 9.0)),
        tone,
    };
    let recent = |kind, word, text: &str| RecentRow {
        id: "01936b0e-0000-7000-8000-000000000001".into(),
        kind,
        word,
        channel: "webhook".into(),
        to: "partner-crm.example".into(),
        text: text.into(),
        at: series.start + TimeDelta::seconds(3_588),
    };
    Overview {
        frame: super::super::sample_frame("/admin"),
        range: range.into(),
        ranges: Stretch::from(range).ranges(&Here::new("/admin")),
        pinned: None,
        say: Say {
            sentence: Sentence {
                tone: Tone::Warn,
                lead: "Webhook needs attention.".into(),
                rest: crate::sentence::Rest(vec![
                    Part::Text("6.2 % failed since ".into()),
                    Part::At(series.start + TimeDelta::seconds(135 * 20), false),
                    Part::Text(": partner-crm.example answers 503. Every other channel delivers.".into()),
                ]),
                help: vec![
                    Help::Open { label: "Open webhook".into(), href: "/admin/channels/webhook".into() },
                    Help::Act { label: "Pause channel".into(), channel: "webhook".into(), verb: "pause" },
                ],
            },
            csrf: "token".into(),
            may_act: true,
        },
        steps: None,
        tiles: Tiles {
            tiles: vec![
                tile("Live connections", "acc", "12,847", ""),
                tile("Delivered", "acc", "338.2", "/s"),
                tile("Success, 15 min", "warn", "98.7", "%"),
                tile("Queue depth", "warn", "1,284", ""),
                tile("Time to deliver, p95", "neu", "182", "ms"),
            ],
        },
        depth: DepthPlot::new(&series, range, &[(0, false), (183, false), (1_008, false)], Shown::Plots),
        channels: Channels {
            rows: vec![
                row("websocket", Health::Healthy, Some(1.0), false),
                row("email", Health::Healthy, Some(0.999), false),
                row("webhook", Health::Degraded, Some(0.938), true),
                row("slack", Health::Paused, None, false),
            ],
            csrf: "token".into(),
            may_act: true,
        },
        recent: Recent {
            rows: vec![
                recent("bad", "Failed", "503, retry 3 of 6 in 4 min"),
                recent("ok", "Sent", "11 ms"),
                recent("retry", "Retrying", "retry 2 of 6"),
                recent("dead", "Dead", "dead after 6 attempts"),
            ],
            one_in: Some(80),
        },
        foot: Foot { at: series.start + TimeDelta::seconds(3_588), every: 2, bucket: "20 s".into(), partial: None },
        rate: RatePlot::new(series, range, Shown::Plots, &Here::new("/admin")),
    }
}
