//! The state model: whatever is done in whatever order, only the table's moves happen, and attempts only grow.

use super::*;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{collections::HashMap, time::Duration};

pub(super) mod tests {
    crate::store::exam::exam!(only_legal_moves_happen);
}

async fn only_legal_moves_happen(exam: Exam) {
    for seed in 0..3 {
        walk(&exam, seed).await;
    }
}

async fn walk(exam: &Exam, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let app = AppId::default();
    let who = format!("ada{seed}");
    let mut all: Vec<(DeliveryId, NotificationId)> = Vec::new();
    let mut claimed: Vec<Claimed> = Vec::new();
    let mut known: HashMap<DeliveryId, DeliveryState> = HashMap::new();
    for _ in 0..120 {
        let pick = |rng: &mut StdRng, n: usize| rng.random_range(0..n);
        match pick(&mut rng, 13) {
            0..=2 => {
                let mut note = bare().also(&who, &["websocket", "email"]).generation(generation(exam, &who).await);
                note = note.plan(|p| p.recipient_inline = true);
                match pick(&mut rng, 4) {
                    0 => note = note.collapse("k"),
                    1 => note = note.at(exam.now().await.unwrap() + Duration::from_secs(3)),
                    2 => note = note.until(exam.now().await.unwrap() + Duration::from_secs(8)),
                    _ => {}
                }
                let sent = exam.send(note).await;
                all.extend(sent.deliveries.iter().map(|d| (d.delivery_id, sent.id)));
            }
            3 | 4 if !all.is_empty() => {
                let ids: Vec<DeliveryId> = (0..3).map(|_| all[pick(&mut rng, all.len())].0).collect();
                for outcome in exam.claim(&ids, exam.node, LEASE).await.unwrap() {
                    if let ClaimOutcome::Claimed(c) = outcome {
                        claimed.push(*c);
                    }
                }
            }
            5 | 6 if !claimed.is_empty() => {
                let c = claimed[pick(&mut rng, claimed.len())].clone();
                let next = match pick(&mut rng, 3) {
                    0 => NextStep::Sent,
                    1 => NextStep::RetryIn { delay_ms: 500 },
                    _ => dead("permanent"),
                };
                exam.finish(finish(&c, next)).await.unwrap();
            }
            7 if !all.is_empty() => {
                exam.cancel(&app, all[pick(&mut rng, all.len())].1, &actor()).await.unwrap();
            }
            8 if !all.is_empty() => {
                exam.replay(&app, all[pick(&mut rng, all.len())].0, &actor()).await.unwrap();
            }
            9 => {
                exam.complete_in_app(&all.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await.unwrap();
                let seen = campanile_model::feed::SeenByClient { user: user(&who), from_seq: 0, to_seq: 5 };
                exam.confirm_delivered(vec![seen]).await.unwrap();
            }
            10 => {
                exam.pass(LEASE / 2);
                exam.rescue(10).await.unwrap();
                exam.give_back(NodeId::new(), None).await.unwrap();
            }
            11 if pick(&mut rng, 4) == 0 => {
                exam.erase_user(&user(&who), &actor()).await.unwrap();
            }
            _ => {
                exam.pass(Duration::from_secs(1));
                exam.sweep(100, MAX_AGE).await.unwrap();
                exam.relay_due(100, &[]).await.unwrap();
            }
        }
        for t in exam.heard().transitions {
            match known.get(&t.delivery_id) {
                None => {}
                Some(before) => assert!(
                    before.may_become(t.state),
                    "seed {seed}: {} went from {before} to {} ({:?})",
                    t.delivery_id,
                    t.state,
                    t.reason
                ),
            }
            known.insert(t.delivery_id, t.state);
        }
    }
    // Items past their time weigh until they are swept.
    exam.sweep(1_000, MAX_AGE).await.unwrap();
    for t in exam.heard().transitions {
        known.insert(t.delivery_id, t.state);
    }
    // What was told is what is stored.
    for (id, notification) in all {
        let row = exam.row(id, notification).await;
        assert_eq!(Some(&row.state), known.get(&id), "seed {seed}");
        let attempts: Vec<u32> = row.attempts.iter().map(|a| a.attempt).collect();
        assert!(attempts.is_sorted() && attempts.iter().all(|n| *n <= row.attempt));
    }
    exam.assert_counts_hold(&user(&who)).await;
}

async fn generation(exam: &Exam, who: &str) -> i64 {
    exam.resolve(&AppId::default(), &[UserId::from(who)]).await.unwrap()[0].generation
}
