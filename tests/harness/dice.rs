//! A small seeded generator: the instants and choices of a test need no quality, only a seed that repeats them.

/// `CAMPANILE_SEED` or a fresh one, and says so: a run can be repeated.
pub fn seed() -> u64 {
    let seed = number("CAMPANILE_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    eprintln!("CAMPANILE_SEED={seed}");
    seed
}

/// A number from the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// From a name: two of one name roll the same.
    pub fn of(name: &str) -> Self {
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }

    pub fn of_these<'a, T>(&mut self, these: &'a [T]) -> &'a T {
        &these[self.below(these.len() as u64) as usize]
    }
}
