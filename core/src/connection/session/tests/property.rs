//! Any interleaving of hints, gaps, losses and resumes: each number once and in order.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// Commit; its hint goes into the pool of those on their way.
    Add,
    /// Deliver the n-th hint on its way, and whether it stays there (a duplicate later).
    Deliver(usize, bool),
    Lose(usize),
    GapOver,
    Head,
    Archive(usize),
    Overflow,
    Resume(i64),
    Outage(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Add),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(n, again)| Step::Deliver(n, again)),
        1 => any::<usize>().prop_map(Step::Lose),
        2 => Just(Step::GapOver),
        1 => Just(Step::Head),
        1 => any::<usize>().prop_map(Step::Archive),
        1 => Just(Step::Overflow),
        1 => (0i64..30).prop_map(Step::Resume),
        1 => any::<bool>().prop_map(Step::Outage),
    ]
}

fn run(steps: Vec<Step>, before: i64, since: Option<i64>, protocol: Protocol) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let feed = Arc::new(Fake::with(before));
        let resume = since.map(|s| ("e.0", s.min(before)));
        let (mut c, mut frames) = Client::open(&feed, protocol, resume).await;
        // Live ones must come in order; a `resume` frame may replay older ones in between, in order as well.
        let from = resume.map_or(before, |(_, since)| since);
        let mut replayed = None;
        let mut on_their_way: Vec<Hint> = Vec::new();
        for s in steps {
            frames.extend(match s {
                Step::Add => {
                    on_their_way.push(feed.add());
                    vec![]
                }
                Step::Deliver(n, again) if !on_their_way.is_empty() => {
                    let n = n % on_their_way.len();
                    let hint = if again { on_their_way[n].clone() } else { on_their_way.remove(n) };
                    c.hint(&hint).await
                }
                Step::Lose(n) if !on_their_way.is_empty() => {
                    on_their_way.remove(n % on_their_way.len());
                    vec![]
                }
                Step::GapOver => c.gap_over().await,
                Step::Head => c.head().await,
                Step::Archive(n) => {
                    let len = feed.inner().items.len();
                    if len > 0 { c.hint(&feed.change(n % len + 1, MarkAs::Archived)).await } else { vec![] }
                }
                Step::Overflow => {
                    let state = feed.state_now();
                    on_their_way.clear();
                    c.session.overflow(Overflow { up_to: state.head_seq, counts: state.counts, lost_marks: false });
                    c.rest().await
                }
                Step::Resume(at) if protocol == Protocol::V1 && resume.is_none() && replayed.is_none() => {
                    if feed.inner().down {
                        vec![]
                    } else {
                        let at = at.min(before);
                        let said = c.ask(json!({"type": "resume", "epoch": "e.0", "since": at})).await;
                        assert_eq!(said.last().unwrap()["type"], "resumed");
                        replayed = Some((
                            at,
                            titles(&said).iter().map(|t| t[1..].parse::<i64>().unwrap()).collect::<Vec<_>>(),
                        ));
                        vec![]
                    }
                }
                Step::Outage(down) => {
                    feed.inner().down = down;
                    vec![]
                }
                _ => vec![],
            });
        }
        feed.inner().down = false;
        frames.extend(c.head().await);
        let got: Vec<i64> = titles(&frames).iter().map(|t| t[1..].parse().unwrap()).collect();
        assert!(got.windows(2).all(|w| w[0] < w[1]), "once and in order: {got:?}");
        let live = |seq: i64| !feed.inner().items[seq as usize - 1].archived;
        let head = feed.inner().items.len() as i64;
        for seq in from + 1..=head {
            // One that was archived before it was read from the feed is rightly left out.
            assert!(got.contains(&seq) || !live(seq), "{seq} is missing in {got:?}");
        }
        assert!(got.iter().all(|s| *s > from && *s <= head), "{got:?} has strange ones");
        if let Some((at, seqs)) = replayed {
            assert!(seqs.windows(2).all(|w| w[0] < w[1]) && seqs.iter().all(|s| *s > at && *s <= before));
            assert!((at + 1..=before).all(|s| seqs.contains(&s) || !live(s)), "{seqs:?} since {at}");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn each_number_once_and_in_order(
        steps in prop::collection::vec(step(), 0..60),
        before in 0i64..30,
        since in prop::option::of(0i64..30),
        v1 in any::<bool>(),
    ) {
        run(steps, before, since, if v1 { Protocol::V1 } else { Protocol::Classic });
    }
}
