//! Places in relatives that are followed along what is read.

use super::Relatives;

/// What is not A, C, G or T.
pub(super) const OTHER: u8 = 4;

/// Bases from the first to the last of a seed: two of three count, 16 in all.
pub(super) const SPAN: usize = 23;
/// Bits of a word of [`SPAN`] bases that count; the same read from either end.
const MASK: u64 = mask();
/// Bases before a seed by which a place is judged.
const HISTORY: usize = 63;
/// Share of equal bases below which a place is no longer followed, nor at first.
const LEAST: f64 = 0.55;
/// Places that are followed at once.
const MOST: usize = 8;
/// Places of a seed that are looked at: what is repeated more often says little.
const TRIED: usize = 16;
/// What is left of a base's weight after another of its phase.
const DECAY: f64 = 0.96;
/// Bases of a phase that the share of all phases counts for.
const PRIOR: f64 = 2.0;
/// Most of a base that is copied: one that was always right may be wrong now.
const CERTAIN: f64 = 0.98;

const fn mask() -> u64 {
    let (mut mask, mut i) = (0, 0);
    while i < SPAN {
        if i % 3 != 2 {
            mask |= 3 << (2 * i);
        }
        i += 1;
    }
    mask
}

/// Whether `seed` is that of these [`SPAN`] bases.
pub(super) fn is_at(seed: u64, codes: &[u8]) -> bool {
    let mut bases = (0..SPAN).zip(codes).filter(|(i, _)| i % 3 != 2);
    bases.all(|(i, &code)| seed >> (2 * (SPAN - 1 - i)) & 3 == u64::from(code))
}

/// A, C, G, T as 0 to 3, in either case; [`OTHER`] for the rest.
pub(super) fn code(base: u8) -> u8 {
    match base.to_ascii_uppercase() {
        b'A' => 0,
        b'C' => 1,
        b'G' => 2,
        b'T' => 3,
        _ => OTHER,
    }
}

fn complement(code: u8) -> u8 {
    if code == OTHER { OTHER } else { 3 - code }
}

/// The latest bases, and their reverse complement.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    forward: u64,
    reverse: u64,
    length: usize,
}

impl Words {
    pub(super) fn push(&mut self, code: u8) {
        if code == OTHER {
            self.length = 0;
            return;
        }
        let end = 2 * (SPAN - 1);
        self.forward = (self.forward << 2 | u64::from(code)) & ((1 << (end + 2)) - 1);
        self.reverse = self.reverse >> 2 | u64::from(3 - code) << end;
        self.length += 1;
    }

    /// The seed of the last [`SPAN`] bases and that of their reverse complement; none across
    /// other letters.
    pub(super) fn seeds(&self) -> Option<(u64, u64)> {
        (self.length >= SPAN).then_some((self.forward & MASK, self.reverse & MASK))
    }
}

/// A place that is followed.
#[derive(Debug, Clone)]
struct Copy {
    /// Where the base lies that comes next.
    at: usize,
    forward: bool,
    /// Of three, which the next base belongs to.
    phase: usize,
    /// Bases of each phase that were right, and all, the latest with the most weight.
    right: [f64; 3],
    all: [f64; 3],
}

impl Copy {
    /// The place whose next base is `at`, if it was alike so far.
    fn found(relatives: &Relatives, recent: &Recent, at: usize, forward: bool) -> Option<Self> {
        let there = |i: usize| {
            let at = if forward {
                at.checked_sub(i)
            } else {
                Some(at + i)
            };
            let code = at.and_then(|at| relatives.codes.get(at).copied());
            let code = code.filter(|&code| code != OTHER)?;
            Some(if forward { code } else { complement(code) })
        };
        let length = recent.length.min(HISTORY);
        let alike: Vec<bool> = (1..=length)
            .map_while(|i| Some(there(i)? == recent.back(i)))
            .collect();
        let mut copy = Self {
            at,
            forward,
            phase: (3 * HISTORY - alike.len()) % 3,
            right: [0.0; 3],
            all: [0.0; 3],
        };
        alike.iter().rev().for_each(|&alike| copy.count(alike));
        copy.is_alike().then_some(copy)
    }

    fn says(&self, relatives: &Relatives) -> u8 {
        let code = relatives.codes[self.at];
        if self.forward { code } else { complement(code) }
    }

    fn share(&self) -> f64 {
        self.right.iter().sum::<f64>() / self.all.iter().sum::<f64>().max(1.0)
    }

    fn is_alike(&self) -> bool {
        self.share() >= LEAST
    }

    fn count(&mut self, right: bool) {
        let phase = self.phase;
        self.right[phase] = self.right[phase] * DECAY + f64::from(u8::from(right));
        self.all[phase] = self.all[phase] * DECAY + 1.0;
        self.phase = (phase + 1) % 3;
    }

    fn odds(&self) -> f64 {
        let phase = self.phase;
        let right = self.right[phase] + PRIOR * self.share();
        let copied = (right / (self.all[phase] + PRIOR) - 0.25) / 0.75;
        let copied = copied.clamp(0.0, CERTAIN);
        copied / (1.0 - copied)
    }

    /// Goes on after `code`; whether there is something to follow.
    fn follow(&mut self, relatives: &Relatives, code: u8) -> bool {
        self.count(self.says(relatives) == code);
        // A contig has other letters at both ends.
        self.at = if self.forward {
            self.at + 1
        } else {
            self.at - 1
        };
        relatives.codes[self.at] != OTHER && self.is_alike()
    }
}

/// The latest bases.
#[derive(Debug, Clone)]
struct Recent {
    codes: [u8; HISTORY],
    length: usize,
}

impl Recent {
    fn push(&mut self, code: u8) {
        self.codes[self.length % HISTORY] = code;
        self.length += 1;
    }

    /// The base `i` before the next one, 1 being the last.
    fn back(&self, i: usize) -> u8 {
        self.codes[(self.length - i) % HISTORY]
    }
}

/// All places that are followed.
#[derive(Debug, Clone)]
pub(super) struct Copies {
    words: Words,
    recent: Recent,
    followed: Vec<Copy>,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            words: Words::default(),
            recent: Recent {
                codes: [OTHER; HISTORY],
                length: 0,
            },
            followed: Vec::with_capacity(MOST),
        }
    }
}

impl Copies {
    /// The natural log-likelihood of the next base, of which a model says `value`.
    pub(super) fn mix(&self, relatives: &Relatives, code: u8, value: f32) -> f32 {
        if self.followed.is_empty() {
            return value;
        }
        let (mut agree, mut all) = (0.0, 0.0);
        for copy in &self.followed {
            let odds = copy.odds();
            all += odds;
            if copy.says(relatives) == code {
                agree += odds;
            }
        }
        ((f64::from(value).exp() + agree) / (1.0 + all)).ln() as f32
    }

    /// Goes on after a base.
    pub(super) fn push(&mut self, relatives: &Relatives, code: u8) {
        self.followed
            .retain_mut(|copy| copy.follow(relatives, code));
        self.words.push(code);
        self.recent.push(code);
        let Some((forward, reverse)) = self.words.seeds() else {
            return;
        };
        for (seed, forward) in [(forward, true), (reverse, false)] {
            for place in relatives.places(seed).take(TRIED) {
                let at = if forward { place + SPAN } else { place - 1 };
                let known = |copy: &Copy| copy.at == at && copy.forward == forward;
                if self.followed.len() < MOST
                    && relatives.codes[at] != OTHER
                    && !self.followed.iter().any(known)
                {
                    self.followed
                        .extend(Copy::found(relatives, &self.recent, at, forward));
                }
            }
        }
    }
}
