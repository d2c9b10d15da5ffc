//! How many different clients were seen, in bounded memory: counted up to a limit, then estimated.
//!
//! A client is what the store calls one: address, JA4 and host. Up to [`EXACT_MAX`] their hashes are kept, past it
//! a `HyperLogLog` sketch takes their place (Flajolet et al. 2007, with the estimator of Ertl 2017, arXiv:1702.01284,
//! which needs no table of corrections).

use hashbrown::HashSet;
use ja4_model::JoinedRequest;

/// Most clients that are counted one by one: 300 KB.
const EXACT_MAX: usize = 16_384;

/// Bits of the hash that choose a register: 16 384 registers of one byte, standard error 0.8 %.
const PRECISION: u32 = 14;
const N_REGISTERS: usize = 1 << PRECISION;
/// Most leading zeros of what is left of the hash.
const MAX_RANK: usize = 64 - PRECISION as usize + 1;

/// Different clients since the start.
#[derive(Debug)]
pub(crate) struct Clients {
    hasher: ahash::RandomState,
    exact: HashSet<u64, ahash::RandomState>,
    registers: Option<Box<[u8]>>,
}

/// What [`Clients`] has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientCount {
    pub(crate) n: u64,
    /// True if `n` is an estimate.
    pub(crate) is_estimate: bool,
}

impl Clients {
    /// Nobody was seen. Hashes are seeded: who knew them could make the estimate wrong.
    pub(crate) fn new(hasher: ahash::RandomState) -> Self {
        Self {
            exact: HashSet::with_hasher(hasher.clone()),
            hasher,
            registers: None,
        }
    }

    /// Notes the client of a request.
    pub(crate) fn see(&mut self, row: &JoinedRequest<'_>) {
        let ja4 = row
            .hello
            .filter(|_| row.hello_is_the_clients())
            .map_or(&[][..], |hello| hello.tls.ja4.as_bytes());
        let host = row.request.host.as_bytes();
        self.insert(self.hasher.hash_one((row.client().ip.0, ja4, host)));
    }

    fn insert(&mut self, hash: u64) {
        if let Some(registers) = &mut self.registers {
            set(registers, hash);
            return;
        }
        self.exact.insert(hash);
        if self.exact.len() > EXACT_MAX {
            let mut registers = vec![0; N_REGISTERS].into_boxed_slice();
            std::mem::take(&mut self.exact)
                .into_iter()
                .for_each(|hash| set(&mut registers, hash));
            self.registers = Some(registers);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> ClientCount {
        match &self.registers {
            None => ClientCount {
                n: self.exact.len() as u64,
                is_estimate: false,
            },
            Some(registers) => ClientCount {
                n: estimate(registers),
                is_estimate: true,
            },
        }
    }
}

fn set(registers: &mut [u8], hash: u64) {
    let register = usize::try_from(hash >> (64 - PRECISION)).expect("fourteen bits fit an index");
    let rest = hash << PRECISION;
    let rank = (rest.leading_zeros() as usize + 1).min(MAX_RANK);
    let rank = u8::try_from(rank).expect("at most 51");
    registers[register] = registers[register].max(rank);
}

fn estimate(registers: &[u8]) -> u64 {
    let mut histogram = [0_u32; MAX_RANK + 1];
    for rank in registers {
        histogram[usize::from(*rank)] += 1;
    }
    let m = N_REGISTERS as f64;
    let share = |rank: usize| f64::from(histogram[rank]) / m;
    let mut z = m * tau(1.0 - share(MAX_RANK));
    for n in histogram[1..MAX_RANK].iter().rev() {
        z = 0.5 * (z + f64::from(*n));
    }
    z += m * sigma(share(0));
    let n = m * m / (2.0 * std::f64::consts::LN_2 * z);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count: positive, and far below 2^53 in any life of a process"
    )]
    let n = n.round() as u64;
    n
}

/// Contribution of the registers that nothing has reached.
fn sigma(mut x: f64) -> f64 {
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        // It converges within some 20 rounds; at x = 1 it grows for ever, and nobody asks then.
        if z <= before || z.is_infinite() {
            return z;
        }
    }
}

/// Contribution of the registers that are full.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(n: u64) -> (Clients, ClientCount) {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let mut clients = Clients::new(hasher.clone());
        for client in 0..n {
            // Each comes twice.
            clients.insert(hasher.hash_one(client));
            clients.insert(hasher.hash_one(client));
        }
        let count = clients.count();
        (clients, count)
    }

    #[test]
    fn few_clients_are_counted_exactly() {
        for n in [0, 1, 1000, EXACT_MAX as u64] {
            assert_eq!(
                after(n).1,
                ClientCount {
                    n,
                    is_estimate: false
                }
            );
        }
    }

    #[test]
    fn many_are_estimated_within_three_percent_in_fixed_memory() {
        for n in [EXACT_MAX as u64 + 1, 30_000, 60_000, 100_000, 1_000_000] {
            let (clients, count) = after(n);
            assert!(count.is_estimate);
            let off = count.n.abs_diff(n);
            assert!(off * 100 <= n * 3, "{n} clients, estimated {}", count.n);
            assert_eq!(clients.exact.capacity(), 0);
        }
    }
}
