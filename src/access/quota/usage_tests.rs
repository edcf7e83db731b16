use governor::clock::FakeRelativeClock;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Test {
    quotas: Quotas,
    clock: FakeRelativeClock,
}

impl Test {
    fn new() -> Self {
        let clock = FakeRelativeClock::default();
        Self {
            quotas: Quotas::by_hand(&clock),
            clock,
        }
    }

    fn caller(&self, name: &str) -> Arc<Usage> {
        self.quotas.of(&Caller::parse(name).unwrap())
    }
}

fn limits(calls: u32, total_calls: u32, credentials: u32, total_credentials: u32) -> Limits {
    let health_checks = 2;
    Limits([calls, total_calls, credentials, total_credentials, health_checks].map(NonZeroU32::new))
}

fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

fn ask(usage: &Usage, firm: &str, provider: &str, limits: &Limits) -> Result<(), Exceeded> {
    let provider = ProviderId::parse(provider).unwrap();
    usage.count_credential(&tenant(firm), &provider, &Scope::General, limits)
}

fn exceeded(quota: Quota, limit: u32, retry_after: Duration) -> Result<(), Exceeded> {
    Err(Exceeded {
        quota,
        limit: NonZeroU32::new(limit).unwrap(),
        retry_after,
    })
}

#[test]
fn as_many_calls_as_the_limit_come_at_once_and_then_one_after_the_other() {
    let test = Test::new();
    let (usage, limits) = (test.caller("a"), limits(9, 4, 9, 9));
    let quarter = SECOND / 4;
    for _ in 0..4 {
        assert_eq!(usage.count_call(&limits), Ok(()));
    }
    for _ in 0..3 {
        assert_eq!(usage.count_call(&limits), exceeded(Quota::TotalCalls, 4, quarter));
    }
    test.clock.advance(quarter);
    assert_eq!(usage.count_call(&limits), Ok(()), "after the time that was told");
    assert_eq!(usage.count_call(&limits), exceeded(Quota::TotalCalls, 4, quarter));
}

#[test]
fn each_tenant_and_each_caller_has_a_quota_of_its_own_and_all_connections_of_a_caller_share_it() {
    let test = Test::new();
    let limits = limits(1, 9, 1, 9);
    let (one, again, other) = (test.caller("a"), test.caller("a"), test.caller("b"));
    assert!(one.count_call_for(&tenant("x"), &limits).is_ok());
    assert!(again.count_call_for(&tenant("x"), &limits).is_err());
    assert!(one.count_call_for(&tenant("y"), &limits).is_ok());
    assert!(other.count_call_for(&tenant("x"), &limits).is_ok());
    assert!(ask(&one, "x", "dat", &limits).is_ok());
    assert!(ask(&again, "x", "wom", &limits).is_err());
    assert!(ask(&one, "y", "dat", &limits).is_ok() && ask(&other, "x", "wom", &limits).is_ok());
}

#[test]
fn asking_for_the_same_credential_again_is_free() {
    let test = Test::new();
    let (usage, limits) = (test.caller("a"), limits(9, 9, 2, 9));
    for _ in 0..50 {
        assert_eq!(ask(&usage, "x", "dat", &limits), Ok(()));
        assert_eq!(ask(&usage, "x", "wom", &limits), Ok(()));
        test.clock.advance(SECOND);
    }
    let oldest = Duration::from_secs(3599);
    assert_eq!(
        ask(&usage, "x", "cartv", &limits),
        exceeded(Quota::Credentials, 2, oldest)
    );
    test.clock.advance(oldest);
    assert_eq!(ask(&usage, "x", "cartv", &limits), Ok(()));
}

#[test]
fn a_key_that_is_good_for_every_tenant_does_not_get_each_ones_quota() {
    let test = Test::new();
    let (usage, limits) = (test.caller("a"), limits(9, 9, 2, 5));
    let asked = (0..100).filter(|firm| ask(&usage, &format!("firm-{firm}"), "dat", &limits).is_ok());
    assert_eq!(asked.count(), 5);
    let hour = Duration::from_hours(1);
    assert_eq!(
        ask(&usage, "new", "dat", &limits),
        exceeded(Quota::TotalCredentials, 5, hour)
    );
    assert_eq!(ask(&usage, "firm-0", "dat", &limits), Ok(()), "it has that one");
}

#[test]
fn a_changed_limit_holds_at_once_and_what_was_asked_for_stays_counted() {
    let test = Test::new();
    let usage = test.caller("a");
    for provider in ["dat", "wom"] {
        assert!(ask(&usage, "x", provider, &limits(1, 1, 2, 9)).is_ok());
    }
    assert!(ask(&usage, "x", "cartv", &limits(1, 1, 2, 9)).is_err());
    assert!(ask(&usage, "x", "cartv", &limits(1, 1, 3, 9)).is_ok());
    assert!(ask(&usage, "x", "egub", &limits(1, 1, 1, 9)).is_err());
    assert!(usage.count_call(&limits(1, 1, 9, 9)).is_ok());
    assert!(usage.count_call(&limits(1, 1, 9, 9)).is_err());
    assert!(usage.count_call(&limits(1, 2, 9, 9)).is_ok());
}

#[test]
fn made_up_tenants_take_no_memory_for_longer_than_they_count() {
    let test = Test::new();
    let (usage, limits) = (test.caller("a"), limits(9, 1_000, 500, 100));
    for number in 0..100_000 {
        // As fast as the limit for all tenants lets it.
        if usage.count_call(&limits).is_err() {
            test.clock.advance(SECOND / 1_000);
        }
        let made_up = tenant(&format!("firm-{number}"));
        let _ = usage.count_call_for(&made_up, &limits);
        let _ = ask(&usage, made_up.as_str(), "dat", &limits);
        let used = usage.used();
        assert!(used.tenants.len() <= 5_000, "{}", used.tenants.len());
        assert!(used.names.len() <= 100);
    }
}

#[test]
fn callers_who_are_gone_are_forgotten_when_nothing_holds_them_back_any_more() {
    let test = Test::new();
    let limits = limits(9, 9, 9, 9);
    let stays = test.caller("stays");
    let waits = test.caller("waits");
    ask(&waits, "x", "dat", &limits).unwrap();
    drop(waits);
    for number in 0..10_000 {
        test.caller(&format!("caller-{number}")).count_call(&limits).unwrap();
        test.clock.advance(SECOND);
        if number == 3_000 {
            let waits = test.caller("waits");
            assert!(
                !waits.used().names.is_over(test.clock.now().as_duration()),
                "its hour is not over"
            );
        }
    }
    assert!(
        test.quotas.callers.len() <= 2 * FEW + 2,
        "{}",
        test.quotas.callers.len()
    );
    assert!(Arc::ptr_eq(&stays, &test.caller("stays")), "it is still connected");
}

#[test]
fn the_log_is_told_of_a_quota_once_a_minute() {
    let mut said = Said::default();
    let times = [0, 1, 59, 60, 61, 200].map(|second| said.again(Duration::from_secs(second)));
    assert_eq!(times, [Some(0), None, None, Some(2), None, Some(1)]);
}

trait AsDuration {
    fn as_duration(&self) -> Duration;
}

impl AsDuration for governor::nanos::Nanos {
    fn as_duration(&self) -> Duration {
        Duration::from_nanos(self.as_u64())
    }
}

#[test]
fn health_checks_and_calls_are_counted_apart() {
    let test = Test::new();
    let (usage, limits) = (test.caller("a"), limits(9, 1, 9, 9));
    for _ in 0..2 {
        assert_eq!(usage.count_health_check(&limits), Ok(()));
    }
    let half = SECOND / 2;
    assert_eq!(
        usage.count_health_check(&limits),
        exceeded(Quota::HealthChecks, 2, half)
    );
    assert_eq!(
        usage.count_call(&limits),
        Ok(()),
        "too many checks are in no call's way"
    );
    assert!(usage.count_call(&limits).is_err());
    test.clock.advance(half);
    assert_eq!(
        usage.count_health_check(&limits),
        Ok(()),
        "nor too many calls in a check's"
    );
    assert_eq!(
        test.caller("b").count_health_check(&limits),
        Ok(()),
        "each caller has its own"
    );
}
