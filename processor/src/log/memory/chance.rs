//! Seeded chance. Small and written out here, so that a seed gives the same run with any version of any crate.

/// A stream of numbers that follows from its seed alone (SplitMix64).
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Chance {
        Chance { state: seed }
    }

    /// A stream that is independent of what this one gives later.
    pub fn fork(&mut self) -> Chance {
        Chance::new(self.draw() ^ 0x5851_f42d_4c95_7f2d)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.draw() % bound }
    }

    /// An index of something that has `len` entries; 0 when it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True with a probability of `per_mille` in a thousand. Draws nothing when that is 0, so that a fault which is
    /// switched off does not shift the others.
    pub fn per_mille(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_for_ever() {
        let mut chance = Chance::new(1);
        assert_eq!([chance.draw(), chance.draw()], [10_451_216_379_200_822_465, 13_757_245_211_066_428_519]);
    }

    #[test]
    fn never_and_always_are_certain() {
        let mut chance = Chance::new(7);
        assert!((0..1000).all(|_| !chance.per_mille(0) && chance.per_mille(1000)));
        assert_eq!(chance.below(0), 0);
        assert!((0..1000).all(|_| chance.index(3) < 3));
    }
}
