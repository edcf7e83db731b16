use super::*;

const BOUND: Duration = Duration::from_millis(10);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A worker whose time goes by when it is told, and for which each call is a fiftieth of a millisecond's work.
struct Worker {
    admission: Arc<Admission>,
    now: Instant,
    /// Its connections.
    parts: Vec<Arc<Part>>,
    waiting: Vec<Waiting>,
}

impl Worker {
    const COST: Duration = Duration::from_micros(20);
    /// How many calls it takes on while there is no pause: what it begins in half of the bound.
    const ROOM: usize = 250;

    /// One that knows what calls cost, and is at rest now and then.
    fn new() -> Self {
        let admission = Arc::new(Admission::new(BOUND));
        let now = admission.queue().rest.since;
        let mut worker = Self {
            admission,
            now,
            parts: (0..100).map(|_| Arc::default()).collect(),
            waiting: Vec::new(),
        };
        worker.works(ms(500));
        worker.rests(REST);
        worker
    }

    /// One that has not come to rest for a while.
    fn busy() -> Self {
        let mut worker = Self::new();
        worker.works(2 * BUSY + ms(1));
        worker
    }

    fn asks_on(&mut self, connection: usize, class: Class) -> bool {
        let taken = self.admission.take(class, &self.parts[connection], self.now);
        let is_taken = taken.is_some();
        self.waiting.extend(taken);
        is_taken
    }

    fn asks(&mut self, class: Class) -> bool {
        self.asks_on(0, class)
    }

    /// How many of so many calls are taken on.
    fn takes(&mut self, calls: usize) -> usize {
        (0..calls).filter(|_| self.asks(Class::Resolve)).count()
    }

    /// Begins the calls that wait.
    fn begins_all(&mut self) {
        for call in std::mem::take(&mut self.waiting) {
            self.now += Self::COST;
            assert!(call.begins(self.now + ms(5_000), self.now));
        }
    }

    /// Is at work on one call after the other, without a pause.
    fn works(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            assert!(self.asks(Class::Vital));
            self.begins_all();
        }
    }

    fn rests(&mut self, time: Duration) {
        self.admission.rests(self.now);
        self.now += time;
        self.admission.wakes(self.now);
    }
}

#[test]
fn a_burst_is_served_and_a_queue_that_stays_is_cut() {
    let mut worker = Worker::new();
    worker.works(ms(90));
    assert_eq!(worker.takes(10_000), 1250, "what begins in half of 50 ms");
    worker.begins_all();
    worker.works(2 * BUSY + ms(1));
    assert_eq!(worker.takes(10_000), Worker::ROOM, "what begins in half of the bound");
    worker.begins_all();
    worker.rests(ms(1));
    assert_eq!(worker.takes(10_000), Worker::ROOM, "a pause is no rest");
    worker.begins_all();
    worker.rests(REST);
    assert_eq!(worker.takes(10_000), 1250, "it has come to rest");
}

#[test]
fn the_more_calls_cost_the_fewer_are_taken_on() {
    let mut worker = Worker::busy();
    for _ in 0..5000 {
        assert!(worker.asks(Class::Vital));
        worker.now += Worker::COST;
        worker.begins_all();
    }
    assert_eq!(worker.takes(1000), Worker::ROOM / 2);
}

/// A handshake beside a few calls makes these look dear, and so does a machine that has other things to do.
#[test]
fn a_burst_is_served_however_dear_the_calls_before_it_seemed() {
    let mut worker = Worker::busy();
    for _ in 0..100 {
        assert!(worker.asks(Class::Vital));
        worker.now += ms(49);
        worker.begins_all();
    }
    assert_eq!(worker.takes(1000), 100, "50 µs each");
}

#[test]
fn time_at_rest_is_no_work() {
    let mut worker = Worker::busy();
    for _ in 0..1000 {
        worker.rests(ms(30));
        worker.works(Worker::COST);
    }
    worker.works(2 * BUSY + ms(1));
    assert_eq!(worker.takes(1000), Worker::ROOM);
}

#[test]
fn what_came_while_the_worker_stood_still_is_served() {
    let mut worker = Worker::busy();
    worker.now += ms(300);
    let meanwhile = 15_000;
    assert_eq!(worker.takes(100_000), meanwhile + Worker::ROOM);
    worker.begins_all();
    worker.works(ms(1));
    assert_eq!(worker.takes(10_000), Worker::ROOM, "they came later");
    worker.begins_all();
    worker.now += ms(300);
    assert_eq!(worker.takes(10_000), Worker::ROOM, "there was too much before");
}

#[test]
fn a_worker_that_reads_does_not_stand_still() {
    let mut worker = Worker::busy();
    for _ in 0..20 {
        worker.now += STANDSTILL;
        worker.asks(Class::Vital);
        worker.waiting.clear();
    }
    assert_eq!(worker.takes(10_000), Worker::ROOM);
}

#[test]
fn the_less_important_is_refused_before_the_more_important() {
    let room_for = |class| {
        let mut worker = Worker::busy();
        (0..1000).filter(|_| worker.asks(class)).count()
    };
    let order = [Class::Survey, Class::Change, Class::Resolve, Class::Vital];
    let rooms = order.map(room_for);
    assert!(
        rooms.is_sorted() && rooms[0] < rooms[1] && rooms[1] < rooms[2],
        "{rooms:?}"
    );
    assert_eq!(rooms[3], 1000, "health is never refused");
}

#[test]
fn whoever_calls_a_lot_leaves_room_for_whoever_does_not() {
    let mut worker = Worker::busy();
    for connection in 0..4 {
        worker.asks_on(connection, Class::Vital);
    }
    worker.waiting.clear();
    assert!(worker.takes(1000) < Worker::ROOM / 2, "on one connection");
    for connection in 1..4 {
        assert!(worker.asks_on(connection, Class::Resolve), "{connection}");
    }
}

#[test]
fn a_connection_that_is_alone_has_all_the_room() {
    let mut worker = Worker::busy();
    for connection in 0..100 {
        worker.asks_on(connection, Class::Vital);
    }
    worker.begins_all();
    worker.works(3 * CALLS_FOR);
    assert_eq!(
        worker.takes(1000),
        Worker::ROOM,
        "the others have not called for a while"
    );
}

#[test]
fn whoever_goes_leaves_its_place() {
    let mut worker = Worker::busy();
    let taken = worker.takes(1000);
    assert!(!worker.asks(Class::Resolve));
    worker.waiting.clear();
    assert_eq!(worker.takes(1000), taken);
}

#[test]
fn while_others_are_refused_no_survey_begins() {
    let mut worker = Worker::busy();
    assert!(worker.asks(Class::Survey));
    worker.takes(1000);
    worker.waiting.clear();
    assert!(!worker.asks(Class::Survey));
    assert!(worker.asks(Class::Change));
    worker.works(AFTERMATH + ms(1));
    assert!(worker.asks(Class::Survey));
}

#[test]
fn surveys_that_are_asked_for_all_the_time_begin_again_after_the_rush() {
    let mut worker = Worker::busy();
    worker.takes(1000);
    worker.begins_all();
    for _ in 0..11 {
        worker.works(ms(100));
        worker.asks(Class::Survey);
        worker.waiting.clear();
    }
    assert!(worker.asks(Class::Survey));
}

#[test]
fn a_short_standstill_does_not_make_calls_dear() {
    let mut worker = Worker::busy();
    worker.now += ms(49);
    worker.works(MEASURED);
    assert!(worker.takes(1000) >= Worker::ROOM / 3);
    worker.begins_all();
    worker.works(3 * MEASURED);
    assert!(worker.takes(1000) >= Worker::ROOM * 3 / 4, "it is forgotten soon");
}

#[test]
fn what_nobody_waits_for_is_not_begun() {
    let worker = Worker::new();
    let begins = |deadline| {
        let call = worker.admission.take(Class::Vital, &worker.parts[0], worker.now);
        call.unwrap().begins(deadline, worker.now)
    };
    assert!(!begins(worker.now));
    assert!(begins(worker.now + ms(1)));
}
