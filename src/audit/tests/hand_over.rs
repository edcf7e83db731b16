//! The hand-over of the writer, in every order in which its steps can happen: no line is left behind and each is written once,
//! whoever writes it. Any of these fails it: whoever puts the writer back does not look at the lines once more, or does not wake
//! the thread that waits for it; whoever wants the thread wakes it and leaves no word; the thread leaves lines without wanting
//! itself; a group that was not written is not put back.

// The queue itself once more, over locks and a writer that are loom's to schedule.
#[expect(clippy::duplicate_mod, reason = "it is the queue itself that is tried")]
#[allow(dead_code, reason = "what the models do not use")]
#[path = "../queue.rs"]
mod queue;

use loom::sync::Arc;
use loom::thread;

use self::queue::{Line, Queue};
use self::writer::{Paper, Writer};
use super::super::entry::Body;
use super::super::{entry, error};
use super::standstill::{self as primitives, in_every_order};

mod writer {
    use loom::sync::{Arc, Condvar, Mutex};

    use super::queue::Line;

    /// What was written, and who waits for more.
    pub(super) struct Paper {
        lines: Mutex<Vec<String>>,
        /// How often the thread has looked around.
        turns: Mutex<usize>,
        changed: Condvar,
        turned: Condvar,
    }

    impl Paper {
        pub(super) fn new() -> Arc<Self> {
            Arc::new(Self {
                lines: Mutex::new(Vec::new()),
                turns: Mutex::new(0),
                changed: Condvar::new(),
                turned: Condvar::new(),
            })
        }

        pub(super) fn wait_for(&self, line: &str) {
            let mut lines = self.lines.lock().unwrap();
            while !lines.iter().any(|written| written == line) {
                lines = self.changed.wait(lines).unwrap();
            }
        }

        pub(super) fn wait_for_turn(&self) {
            let mut turns = self.turns.lock().unwrap();
            while *turns == 0 {
                turns = self.turned.wait(turns).unwrap();
            }
        }

        pub(super) fn lines(&self) -> Vec<String> {
            self.lines.lock().unwrap().clone()
        }
    }

    /// Writes to the paper. As often as it is told, there is more to do than that, which is for the thread.
    pub(super) struct Writer {
        paper: Arc<Paper>,
        troubles: u32,
        group: Vec<Line>,
        is_over: bool,
    }

    impl Writer {
        pub(super) fn new(paper: &Arc<Paper>, troubles: u32) -> Self {
            Self {
                paper: Arc::clone(paper),
                troubles,
                group: Vec::new(),
                is_over: false,
            }
        }

        pub(super) fn group(&mut self) -> &mut Vec<Line> {
            &mut self.group
        }

        pub(super) fn write_if_usual(&mut self) -> bool {
            if self.troubles > 0 {
                self.troubles -= 1;
                return false;
            }
            self.write();
            true
        }

        pub(super) fn turn(&mut self) {
            self.write();
            *self.paper.turns.lock().unwrap() += 1;
            self.paper.turned.notify_all();
        }

        fn write(&mut self) {
            let written = self.group.drain(..).map(|line| line.body.as_str().to_owned());
            self.paper.lines.lock().unwrap().extend(written);
            self.paper.changed.notify_all();
        }

        pub(super) fn end(&mut self) {
            assert!(!self.is_over && self.group.is_empty());
            self.is_over = true;
        }
    }
}

fn line(name: &str) -> (Line, String) {
    let body = Body::event(name);
    let text = body.as_str().to_owned();
    (Line::for_nobody(body), text)
}

/// Hands lines in one after the other and waits for each, as calls do.
fn call(queue: &Queue, paper: &Paper, names: &[&str]) {
    for name in names {
        let (line, text) = line(name);
        assert!(queue.put(line).is_ok());
        queue.write_here();
        paper.wait_for(&text);
    }
}

/// A log whose writer has so much trouble, and its thread.
fn open(troubles: u32) -> (Arc<Queue>, Arc<Paper>, thread::JoinHandle<()>) {
    let paper = Paper::new();
    let queue = Arc::new(Queue::new(Writer::new(&paper, troubles)));
    let thread = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || queue.run())
    };
    (queue, paper, thread)
}

/// Ends the log, which then holds these lines, each once, and behind them its last words.
fn close(queue: &Queue, paper: &Paper, thread: thread::JoinHandle<()>, expected: &[&str]) {
    let (_, last) = line("last");
    queue.end(vec![Body::event("last")]);
    thread.join().unwrap();
    let mut lines = paper.lines();
    assert_eq!(lines.pop(), Some(last));
    lines.sort_unstable();
    let mut expected: Vec<_> = expected.iter().map(|name| line(name).1).collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert!(queue.put(line("late").0).is_err());
}

#[test]
fn no_line_is_left_behind_whoever_writes_it() {
    in_every_order(3, || {
        let (queue, paper, thread) = open(0);
        let other = {
            let (queue, paper) = (Arc::clone(&queue), Arc::clone(&paper));
            thread::spawn(move || call(&queue, &paper, &["c"]))
        };
        call(&queue, &paper, &["a", "b"]);
        other.join().unwrap();
        close(&queue, &paper, thread, &["a", "b", "c"]);
    });
}

#[test]
fn what_is_for_the_thread_is_written_by_it_and_nobody_else_has_to_come_by() {
    in_every_order(3, || {
        let (queue, paper, thread) = open(1);
        let other = {
            let (queue, paper) = (Arc::clone(&queue), Arc::clone(&paper));
            thread::spawn(move || call(&queue, &paper, &["c"]))
        };
        call(&queue, &paper, &["a"]);
        other.join().unwrap();
        close(&queue, &paper, thread, &["a", "c"]);
    });
}

#[test]
fn the_line_of_a_call_that_has_gone_is_written_by_the_thread() {
    in_every_order(3, || {
        let (queue, paper, thread) = open(0);
        let gone = {
            let (queue, paper) = (Arc::clone(&queue), Arc::clone(&paper));
            thread::spawn(move || {
                let (line, text) = line("gone");
                assert!(queue.put(line).is_ok());
                queue.wake_thread();
                paper.wait_for(&text);
            })
        };
        call(&queue, &paper, &["a"]);
        gone.join().unwrap();
        close(&queue, &paper, thread, &["a", "gone"]);
    });
}

#[test]
fn the_thread_gets_the_writer_when_it_is_wanted_whoever_has_it() {
    in_every_order(3, || {
        let (queue, paper, thread) = open(0);
        let wakes = {
            let (queue, paper) = (Arc::clone(&queue), Arc::clone(&paper));
            thread::spawn(move || {
                queue.wake_thread();
                paper.wait_for_turn();
            })
        };
        call(&queue, &paper, &["a"]);
        wakes.join().unwrap();
        close(&queue, &paper, thread, &["a"]);
    });
}
