//! What happened in runs: a simulation in which nothing happens proves nothing.

/// What happened in a run; each has to in all of them together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub takeovers: usize,
    pub crashes: usize,
    pub swaps: usize,
    pub tells: usize,
    /// Writes that arrived when the term in which they were sent was over.
    pub late: usize,
    /// Of these, such as had no effect.
    pub late_in_vain: usize,
    /// Of these, such as had one, because nobody had written since.
    pub late_in_effect: usize,
    pub stopped_by_term: usize,
    pub stale_statuses: usize,
    /// Listings of everything, before a leader goes on from a version that it has not made.
    pub listings: usize,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.takeovers += other.takeovers;
        self.crashes += other.crashes;
        self.swaps += other.swaps;
        self.tells += other.tells;
        self.late += other.late;
        self.late_in_vain += other.late_in_vain;
        self.late_in_effect += other.late_in_effect;
        self.stopped_by_term += other.stopped_by_term;
        self.stale_statuses += other.stale_statuses;
        self.listings += other.listings;
    }

    /// A simulation in which nothing happens proves nothing.
    pub fn all_happened(&self) {
        let Self { takeovers, crashes, swaps, tells, late, late_in_vain, late_in_effect, .. } = *self;
        let counts = [takeovers, crashes, swaps, tells, late, late_in_vain, late_in_effect];
        let rest = [self.stopped_by_term, self.stale_statuses, self.listings];
        assert!(counts.iter().chain(&rest).all(|count| *count > 0), "{self:?}");
    }
}
