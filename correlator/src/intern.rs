//! One copy of what many events say: names of producers, facts of hellos.

use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use ja4_model::{Text, TlsFacts};

/// Most distinct names kept. Names come from stamped identities, so tens are usual; the limit only
/// bounds what a long life with changing nodes can cost (a name has 253 bytes at most).
const MAX_NAMES: usize = 4096;

/// Most distinct facts kept: the largest public collection of JA4 has a few thousand, an attacker
/// who makes up hellos can have any number. About 700 B each.
const MAX_FACTS: usize = 8192;

/// Numbers and immortal copies of names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by_name: HashMap<&'static [u8], u32, ahash::RandomState>,
    names: Vec<&'static [u8]>,
}

impl Names {
    /// The number of a name; the one number of all names over the limit is [`MAX_NAMES`].
    pub(crate) fn number(&mut self, name: &[u8]) -> u32 {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        if self.names.len() >= MAX_NAMES {
            return u32::try_from(MAX_NAMES).expect("a small constant");
        }
        let number = u32::try_from(self.names.len()).expect("bounded by MAX_NAMES");
        let name: &'static [u8] = Box::leak(name.into());
        self.names.push(name);
        self.by_name.insert(name, number);
        number
    }

    /// The name as a text that outlives every event.
    pub(crate) fn text(&self, number: u32) -> Text<'static> {
        self.names
            .get(number as usize)
            .map_or_else(|| Text::from("~other"), |name| Text::from(*name))
    }
}

/// Facts of hellos, one copy each.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    hasher: ahash::RandomState,
    known: HashTable<Arc<TlsFacts<'static>>>,
}

impl Facts {
    /// The shared copy of `facts`.
    pub(crate) fn share(&mut self, facts: &TlsFacts<'_>) -> Arc<TlsFacts<'static>> {
        let hash = self.hasher.hash_one(facts);
        if let Some(known) = self.known.find(hash, |known| **known == *facts) {
            return Arc::clone(known);
        }
        if self.known.len() >= MAX_FACTS {
            // Rare: an attacker makes up hellos. Starting over costs copies, never a wrong answer.
            self.known.clear();
        }
        let shared = Arc::new(facts.clone().into_owned());
        let hasher = &self.hasher;
        self.known
            .insert_unique(hash, Arc::clone(&shared), |known| hasher.hash_one(known));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_facts_are_one_copy_and_the_copies_are_bounded() {
        let mut facts = Facts::default();
        let named = |ja4: String| TlsFacts {
            ja4: ja4.into(),
            ..TlsFacts::default()
        };
        let first = facts.share(&named("a".into()));
        assert!(Arc::ptr_eq(&first, &facts.share(&named("a".into()))));
        for idx in 0..3 * MAX_FACTS {
            facts.share(&named(idx.to_string()));
            assert!(facts.known.len() <= MAX_FACTS);
        }
        assert_eq!(facts.share(&named("a".into())), first);
    }

    #[test]
    fn names_keep_their_number() {
        let mut names = Names::default();
        let a = names.number(b"a");
        assert_ne!(a, names.number(b"b"));
        assert_eq!((names.number(b"a"), names.text(a)), (a, Text::from("a")));
    }
}
