//! Inputs made from known ones: bytes flipped, parts repeated, cut, moved and taken from others.
//!
//! It knows no format. Invariant: the same seed and corpus give the same inputs.

/// No input grows beyond this, whatever is repeated.
const BYTES_MAX: usize = 64 * 1024;
/// Changes to one input.
const CHANGES_MAX: usize = 6;

/// What parsers trip over: limits of integers, quotes, brackets, signs, half of a character.
const TOKENS: [&[u8]; 24] = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80",
    b"-1",
    b"0",
    b"2147483648",
    b"4294967296",
    b"18446744073709551616",
    b"1e999",
    b"0.5",
    b"\"",
    b"\\",
    b"\\u0000",
    b"[",
    b"{",
    b"}",
    b":",
    b"/",
    b"..",
    b"\n",
    b"\xc3",
    "é€".as_bytes(),
];

/// A small generator of numbers (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `count`, which is 1 at least.
    fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    /// An input: one of `corpus` with a few changes.
    pub fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.one(corpus).to_vec();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut input, corpus);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn one<'a>(&mut self, corpus: &'a [Vec<u8>]) -> &'a [u8] {
        let at = self.below(corpus.len());
        corpus.get(at).map_or(&[], Vec::as_slice)
    }

    /// A stretch of `bytes`, short ones more often.
    fn stretch(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        let longest = if self.below(4) == 0 { bytes.len() } else { 16 };
        let length = self.below((bytes.len() - start).min(longest) + 1);
        start..start + length
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len());
        let part = self.stretch(input);
        match self.below(8) {
            0 => {
                let bit = 1 << self.below(8);
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
            }
            1 => {
                let value = self.next() as u8;
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte = value);
            }
            2 => drop(input.drain(part)),
            3 => {
                let token = TOKENS[self.below(TOKENS.len())];
                drop(input.splice(at..at, token.iter().copied()));
            }
            4 => {
                let token = TOKENS[self.below(TOKENS.len())];
                drop(input.splice(part, token.iter().copied()));
            }
            5 => {
                // Deep nesting and long lists come from a piece repeated.
                let times = 1 << self.below(8);
                let piece = input[part].repeat(times);
                let room = BYTES_MAX.saturating_sub(input.len()).min(piece.len());
                drop(input.splice(at..at, piece[..room].iter().copied()));
            }
            6 => {
                let other = self.one(corpus).to_vec();
                let from = self.stretch(&other);
                drop(input.splice(part, other[from].iter().copied()));
            }
            _ => input.truncate(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn a_seed_makes_the_same_inputs_and_most_of_them_are_new() {
        let corpus = vec![b"{\"family\": \"web\"}".to_vec(), Vec::new(), vec![7; 300]];
        let made = |seed| {
            let mut dice = Dice::new(seed);
            (0..500).map(|_| dice.input(&corpus)).collect::<Vec<_>>()
        };
        assert_eq!(made(3), made(3));
        let new = made(3).into_iter().filter(|input| !corpus.contains(input)).count();
        assert!(new > 350, "{new}");
    }
}
