//! Interned values: a million records share a handful of namespaces, zone names and label sets.

use std::collections::HashMap;
use std::hash::Hash;
use std::marker::PhantomData;
use std::num::NonZero;
use std::sync::Arc;

/// Stands for one value of an [`Interner`]: its place there, counted from one, so that none at all takes no more room.
pub(crate) struct Symbol<T: ?Sized>(NonZero<u32>, PhantomData<fn() -> Box<T>>);

impl<T: ?Sized> Clone for Symbol<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Symbol<T> {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl<T: ?Sized> Copy for Symbol<T> {}

impl<T: ?Sized> PartialEq for Symbol<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: ?Sized> Eq for Symbol<T> {}

impl<T: ?Sized> Hash for Symbol<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Values by symbol and symbols by value, each as long as somebody refers to it.
pub(crate) struct Interner<T: ?Sized> {
    values: Vec<Option<Value<T>>>,
    symbols: HashMap<Arc<T>, Symbol<T>>,
    free: Vec<Symbol<T>>,
}

struct Value<T: ?Sized> {
    value: Arc<T>,
    references: u32,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self { values: Vec::new(), symbols: HashMap::new(), free: Vec::new() }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The symbol of `value`, to be given back by [`Interner::release`].
    pub(crate) fn intern(&mut self, value: &T) -> Symbol<T>
    where
        for<'a> Arc<T>: From<&'a T>,
    {
        match self.find(value) {
            Some(symbol) => self.refer(symbol),
            None => self.insert(Arc::from(value)),
        }
    }

    fn refer(&mut self, symbol: Symbol<T>) -> Symbol<T> {
        if let Some(Some(known)) = self.values.get_mut(symbol.index()) {
            known.references += 1;
        }
        symbol
    }

    fn insert(&mut self, value: Arc<T>) -> Symbol<T> {
        let symbol = self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            let place = u32::try_from(self.values.len()).ok().and_then(NonZero::new);
            Symbol(place.unwrap_or(NonZero::<u32>::MAX), PhantomData)
        });
        if let Some(slot) = self.values.get_mut(symbol.index()) {
            *slot = Some(Value { value: value.clone(), references: 1 });
        }
        self.symbols.insert(value, symbol);
        symbol
    }

    /// Takes one reference back. With the last one the value goes, and its symbol will be that of another.
    pub(crate) fn release(&mut self, symbol: Symbol<T>) {
        let Some(slot) = self.values.get_mut(symbol.index()) else { return };
        if let Some(known) = slot {
            known.references -= 1;
            if known.references == 0 {
                self.symbols.remove(&known.value);
                *slot = None;
                self.free.push(symbol);
            }
        }
    }

    /// The symbol of `value`, if it has one now.
    pub(crate) fn find(&self, value: &T) -> Option<Symbol<T>> {
        self.symbols.get(value).copied()
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// Like [`Interner::intern`] for values that are not slices or strings.
    pub(crate) fn intern_owned(&mut self, value: T) -> Symbol<T> {
        match self.find(&value) {
            Some(symbol) => self.refer(symbol),
            None => self.insert(Arc::new(value)),
        }
    }
}

impl<T: ?Sized> Interner<T> {
    /// The value of `symbol`; `None` for a symbol of another interner.
    pub(crate) fn get(&self, symbol: Symbol<T>) -> Option<&T> {
        self.values.get(symbol.index())?.as_ref().map(|known| &*known.value)
    }

    /// Number of values.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.symbols.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_with_its_last_reference_and_another_gets_its_place() {
        let mut texts = Interner::<str>::default();
        let [one, again, two] = ["one", "one", "two"].map(|text| texts.intern(text));
        assert!(one == again && one != two);
        texts.release(one);
        assert_eq!((texts.get(again), texts.len()), (Some("one"), 2));
        texts.release(again);
        assert_eq!((texts.get(again), texts.find("one").is_some(), texts.len()), (None, false, 1));
        let three = texts.intern("three");
        assert!(three == one, "no room is lost");
        assert_eq!((texts.get(three), texts.get(two)), (Some("three"), Some("two")));
    }
}
