//! The places between two steps of something that must survive a crash at any of them. In the product they are nothing; a test
//! lets the work end at one of them.

use std::io;

/// A crash may come here.
#[cfg(not(test))]
#[allow(clippy::unnecessary_wraps, reason = "in tests it fails")]
pub(super) fn point() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use tests::point;

#[cfg(test)]
pub(super) mod tests {
    use super::io;
    use std::cell::Cell;

    thread_local! {
        /// How many points are passed before the crash.
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    pub(in crate::cluster) fn point() -> io::Result<()> {
        LEFT.with(|left| match left.get() {
            Some(0) => Err(io::Error::other("crash")),
            Some(n) => {
                left.set(Some(n - 1));
                Ok(())
            }
            None => Ok(()),
        })
    }

    /// Does `work` with a crash at each of its points in turn, each time followed by `after`; answers with how many there are.
    pub(in crate::cluster) fn at_each_point<T, E: std::fmt::Debug>(
        mut before: impl FnMut() -> T,
        work: impl Fn(&T) -> Result<(), E>,
        mut after: impl FnMut(T),
    ) -> usize {
        for n in 0.. {
            let place = before();
            LEFT.with(|left| left.set(Some(n)));
            let done = work(&place);
            LEFT.with(|left| left.set(None));
            let whole = done.is_ok();
            after(place);
            if whole {
                return n;
            }
        }
        unreachable!("it ends by itself")
    }
}
