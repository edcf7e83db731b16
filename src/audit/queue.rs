//! Lines on their way to the file, and who writes them: whoever waits for one, if all there is to do is to append them, else a
//! thread of the log's own.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::oneshot;

use super::entry::Body;
use super::error::Unavailable;
use super::primitives::{Condvar, Instant, Mutex, MutexGuard};
use super::writer::Writer;

/// How many lines may wait before calls are refused.
const ROOM: usize = 16 * 1024;
/// How many lines share one write at most, but for those that belong together; bounds the time that the first of them waits.
const GROUP: usize = 1024;
/// How often the thread looks around when nobody asks it to.
const TICK: Duration = Duration::from_millis(50);
/// How many groups whoever waits for a line writes at most, for others too.
const ROUNDS: usize = 4;

/// A line on its way.
pub(super) struct Line {
    pub(super) body: Body,
    /// Whether somebody waits until it is durable.
    pub(super) is_urgent: bool,
    /// Who waits for its number; none if nobody does.
    pub(super) answer: Option<Answer>,
    /// Whether it is written together with the next one, or neither is.
    pub(super) goes_on: bool,
    /// Its number, once it is written.
    pub(super) seq: u64,
}

/// Who waits for so many lines, of which this is the last.
pub(super) struct Answer {
    pub(super) lines: u64,
    /// Gets its number.
    pub(super) to: oneshot::Sender<Result<u64, Unavailable>>,
}

impl Line {
    /// One that nobody waits for.
    pub(super) fn for_nobody(body: Body) -> Self {
        Self {
            body,
            is_urgent: false,
            answer: None,
            goes_on: false,
            seq: 0,
        }
    }
}

/// The lines, and the writer when nobody has it. Whoever takes it looks at the lines once more when it puts it back, so that
/// none is left behind.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    lines: Vec<Line>,
    /// None while somebody writes, and when the log is closed.
    writer: Option<Box<Writer>>,
    /// There is something to do that only the thread does.
    is_thread_wanted: bool,
    is_thread_waiting: bool,
    is_ending: bool,
}

impl Queue {
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            state: Mutex::new(State {
                lines: Vec::new(),
                writer: Some(Box::new(writer)),
                is_thread_wanted: false,
                is_thread_waiting: false,
                is_ending: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Puts a line in. Somebody has to see to it that it is written: [`Self::write_here`] or [`Self::wake_thread`].
    pub(super) fn put(&self, line: Line) -> Result<(), Unavailable> {
        let mut state = self.state();
        if state.is_ending || state.lines.len() >= ROOM {
            return Err(Unavailable);
        }
        state.lines.push(line);
        Ok(())
    }

    /// Puts several in, which are written one behind the other.
    pub(super) fn put_all(&self, lines: impl IntoIterator<Item = Line>) -> Result<(), Unavailable> {
        let mut state = self.state();
        if state.is_ending || state.lines.len() >= ROOM {
            return Err(Unavailable);
        }
        state.lines.extend(lines);
        Ok(())
    }

    /// Writes what waits, unless somebody is at it, who then writes this too. It never waits for a disk that is known to be slow:
    /// that is left to the thread, and false says so.
    pub(super) fn write_here(&self) -> bool {
        let mut state = self.state();
        for _ in 0..ROUNDS {
            if state.lines.is_empty() {
                return true;
            }
            let Some(mut writer) = state.writer.take() else {
                return true;
            };
            take_group(&mut state.lines, writer.group());
            drop(state);
            let is_written = writer.write_if_usual();
            state = self.state();
            if !is_written {
                let group = writer.group();
                group.append(&mut state.lines);
                std::mem::swap(&mut state.lines, group);
            }
            self.put_back(&mut state, writer);
            if !is_written {
                break;
            }
        }
        self.want_thread(&mut state);
        false
    }

    /// How many lines wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.state().lines.len()
    }

    /// Has the thread look around.
    pub(super) fn wake_thread(&self) {
        self.want_thread(&mut self.state());
    }

    /// Takes no more lines but these, whether there is room or not; the thread ends when all are written.
    pub(super) fn end(&self, last_words: Vec<Body>) {
        let mut state = self.state();
        state.lines.extend(last_words.into_iter().map(Line::for_nobody));
        state.is_ending = true;
        self.want_thread(&mut state);
    }

    /// The thread's work, until it is told to end.
    pub(super) fn run(&self) {
        loop {
            let (mut state, mut writer) = self.wait_for_work();
            state.is_thread_wanted = false;
            let is_ending = state.is_ending;
            take_group(&mut state.lines, writer.group());
            drop(state);
            writer.turn();
            let mut state = self.state();
            if is_ending && state.lines.is_empty() {
                drop(state);
                return writer.end();
            }
            state.is_thread_wanted |= !state.lines.is_empty();
            self.put_back(&mut state, writer);
        }
    }

    /// Waits until it is wanted, at most for one tick, and then for the writer.
    fn wait_for_work(&self) -> (MutexGuard<'_, State>, Box<Writer>) {
        let tick = Instant::now() + TICK;
        let mut state = self.state();
        loop {
            let rest = tick.saturating_duration_since(Instant::now());
            let is_time = state.is_thread_wanted || state.is_ending || rest.is_zero();
            if is_time && let Some(writer) = state.writer.take() {
                return (state, writer);
            }
            // Who puts it back wakes the thread, but only if it is wanted.
            state.is_thread_wanted |= is_time;
            state.is_thread_waiting = true;
            let timeout = if rest.is_zero() { TICK } else { rest };
            let waited = self.changed.wait_timeout(state, timeout);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.is_thread_waiting = false;
        }
    }

    fn put_back(&self, state: &mut State, writer: Box<Writer>) {
        state.writer = Some(writer);
        if state.is_thread_wanted {
            self.want_thread(state);
        }
    }

    fn want_thread(&self, state: &mut State) {
        state.is_thread_wanted = true;
        // Once: it takes a while to wake up, and others come by meanwhile.
        if std::mem::take(&mut state.is_thread_waiting) {
            self.changed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves the oldest lines into the group, which is empty.
fn take_group(lines: &mut Vec<Line>, group: &mut Vec<Line>) {
    if lines.len() <= GROUP {
        std::mem::swap(lines, group);
    } else {
        let end = (GROUP..lines.len()).find(|end| !lines[end - 1].goes_on);
        group.extend(lines.drain(..end.unwrap_or(lines.len())));
    }
}
