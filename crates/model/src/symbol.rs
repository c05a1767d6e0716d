//! Interned values: a million records share a handful of namespaces, zone names and label sets.

use std::collections::HashMap;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

/// Stands for one value of an [`Interner`].
pub(crate) struct Symbol<T: ?Sized>(u32, PhantomData<fn() -> Box<T>>);

impl<T: ?Sized> Clone for Symbol<T> {
    fn clone(&self) -> Self {
        *self
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

/// Values by symbol and symbols by value. Values are never given up: there are few of them.
pub(crate) struct Interner<T: ?Sized> {
    values: Vec<Arc<T>>,
    symbols: HashMap<Arc<T>, u32>,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self { values: Vec::new(), symbols: HashMap::new() }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The symbol of `value`, a new one at its first appearance.
    pub(crate) fn intern(&mut self, value: &T) -> Symbol<T>
    where
        for<'a> Arc<T>: From<&'a T>,
    {
        self.find(value).unwrap_or_else(|| self.insert(Arc::from(value)))
    }

    fn insert(&mut self, value: Arc<T>) -> Symbol<T> {
        let symbol = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.push(value.clone());
        self.symbols.insert(value, symbol);
        Symbol(symbol, PhantomData)
    }

    /// The symbol of `value`, if it ever appeared.
    pub(crate) fn find(&self, value: &T) -> Option<Symbol<T>> {
        self.symbols.get(value).map(|&symbol| Symbol(symbol, PhantomData))
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// Like [`Interner::intern`] for values that are not slices or strings.
    pub(crate) fn intern_owned(&mut self, value: T) -> Symbol<T> {
        self.find(&value).unwrap_or_else(|| self.insert(Arc::new(value)))
    }
}

impl<T: ?Sized> Interner<T> {
    /// The value of `symbol`; `None` for a symbol of another interner.
    pub(crate) fn get(&self, symbol: Symbol<T>) -> Option<&T> {
        self.values.get(symbol.0 as usize).map(|value| &**value)
    }
}
