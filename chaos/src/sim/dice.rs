//! The one source of chance: everything a run does follows from its seed.

use muster_model::{IdSource, Millis};

#[derive(Debug)]
pub(super) struct Dice {
    pub ids: IdSource,
}

/// What has luck of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Branch {
    Fault { number: u64 },
    Wish { client: usize, number: u64 },
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { ids: IdSource::new(u128::from(seed)) }
    }

    /// A source for one fault or one wish: leaving it out changes no other's luck.
    pub fn branch(seed: u64, what: Branch) -> Self {
        let (kind, place, number) = match what {
            Branch::Fault { number } => (1, 0, number),
            Branch::Wish { client, number } => (2, client as u64, number),
        };
        let tag = kind << 56 | place << 40 | number;
        Self { ids: IdSource::new(u128::from(tag) << 64 | u128::from(seed)) }
    }

    /// 0 to `number` - 1; 0 if `number` is 0.
    pub fn below(&mut self, number: u64) -> u64 {
        self.ids.next_u64() % number.max(1)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A span of milliseconds, both ends included.
    pub fn span(&mut self, low: u64, high: u64) -> Millis {
        Millis(self.between(low, high))
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = self.below(from.len() as u64) as usize;
        from.get(at).cloned()
    }
}
