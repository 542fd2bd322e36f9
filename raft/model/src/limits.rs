//! Every bound of the state machine and the brains, each with its reason.

use crate::time::Millis;

// ---- what users write (ECS's quotas, except where said) ----

/// ECS: containers per task definition.
pub const CONTAINERS_PER_DEFINITION_MAX: usize = 10;
/// ECS: a task definition's JSON, 64 KiB.
pub const DEFINITION_BYTES_MAX: usize = 64 * 1024;
/// Ten times ECS's quota of services per cluster; a service row is about 1 KiB.
pub const SERVICES_PER_CLUSTER_MAX: usize = 50_000;
/// Twice ECS's quota of tasks per service.
pub const DESIRED_COUNT_MAX: u32 = 10_000;
/// ECS: clusters per account.
pub const CLUSTERS_MAX: usize = 10_000;
/// Zones of a cluster with a reserve: a region of Amazon's has at most six, a site may have more
/// rooms. Each is summed up per plan.
pub const ZONE_RESERVES_MAX: usize = 32;
/// Four times ECS's quota of container instances, over all clusters.
pub const INSTANCES_MAX: usize = 20_000;
/// The size at which state still fits a 4 GiB manager.
pub const TASKS_MAX: usize = 1_000_000;
/// ECS: tasks per RunTask call.
pub const RUN_TASK_COUNT_MAX: u32 = 10;
/// ECS: names of clusters, services, families, containers.
pub const NAME_CHARS_MAX: usize = 255;
/// ECS: tags per resource.
pub const TAGS_MAX: usize = 50;
/// ECS: characters of a tag's key and value.
pub const TAG_KEY_CHARS_MAX: usize = 128;
pub const TAG_VALUE_CHARS_MAX: usize = 256;
/// ECS: `startedBy` of a task.
pub const STARTED_BY_CHARS_MAX: usize = 128;
/// ECS: characters of the JSON of `overrides`.
pub const OVERRIDES_BYTES_MAX: usize = 8192;
/// ECS: constraints of a service or a RunTask call and its definition together.
pub const PLACEMENT_CONSTRAINTS_MAX: usize = 10;
pub const PLACEMENT_STRATEGIES_MAX: usize = 5;
/// ECS: custom attributes per container instance.
pub const ATTRIBUTES_MAX: usize = 50;
/// ECS: an attribute's name.
pub const ATTRIBUTE_NAME_CHARS_MAX: usize = 128;
/// ECS: the expression of a `memberOf`.
pub const QUERY_CHARS_MAX: usize = 2000;
/// `not` and parentheses inside each other: nobody reads more, and a stack must hold them.
pub const QUERY_DEPTH_MAX: usize = 64;
/// What the patterns of one query take in memory, compiled: `\w{255}` takes some 20 KiB.
pub const QUERY_PATTERN_BYTES_MAX: usize = 128 * 1024;
/// The least that a pattern counts for; about what `t2.*` takes.
pub const QUERY_PATTERN_BYTES_MIN: usize = 512;
/// ECS: attributes that users put on one container instance.
pub const CUSTOM_ATTRIBUTES_MAX: usize = 10;
/// ECS: attributes in one PutAttributes or DeleteAttributes call.
pub const ATTRIBUTES_PER_CALL_MAX: usize = 10;
/// ECS: container instances in one StartTask call.
pub const START_TASK_INSTANCES_MAX: usize = 10;
/// ECS: how long a task is protected, in minutes.
pub const PROTECTION_MINUTES_MAX: u32 = 2880;
pub const PROTECTION_MINUTES_DEFAULT: u32 = 120;
/// A dozen settings of each of some hundred users.
pub const ACCOUNT_SETTINGS_MAX: usize = 2000;
/// Some 500 bytes each; who has more has made a name per run.
pub const CAPACITY_PROVIDERS_MAX: usize = 1000;
/// ECS: capacity providers of a cluster.
pub const CLUSTER_PROVIDERS_MAX: usize = 20;
/// ECS: providers in one strategy, and the ranges of `weight` and `base`.
pub const STRATEGY_ITEMS_MAX: usize = 20;
pub const STRATEGY_WEIGHT_MAX: u32 = 1000;
pub const STRATEGY_BASE_MAX: u32 = 100_000;
/// ECS: `minimumScalingStepSize` and `maximumScalingStepSize`, instances.
pub const SCALING_STEP_MAX: u32 = 10_000;
/// ECS: `instanceWarmupPeriod`, seconds.
pub const INSTANCE_WARMUP_SECS_MAX: u32 = 10_000;
/// Names of resources of one container or instance. Ten containers' stay below 256, so that a byte
/// numbers them.
pub const NAMED_RESOURCES_MAX: usize = 20;
/// Units of a named resource; a sum over a million tasks is bounded by what instances have.
pub const NAMED_AMOUNT_MAX: u32 = 1_000_000;
/// GPUs of one machine: each is listed by its id.
pub const GPUS_MAX: u32 = 256;
/// 64 vCPU x 1024 times four: larger than any machine a task should claim.
pub const CPU_UNITS_MAX: u32 = 1024 * 256;
/// ECS: minimum memory of a container, MiB.
pub const MEMORY_MIB_MIN: u32 = 6;
/// 4 TiB.
pub const MEMORY_MIB_MAX: u32 = 4 * 1024 * 1024;
/// ECS: port mappings per container.
pub const PORT_MAPPINGS_MAX: usize = 100;
/// ECS on Fargate: 120 s; self-hosted users asked for no cap, so one hour.
pub const STOP_TIMEOUT_SECS_MAX: u32 = 3600;
/// ECS: `ECS_CONTAINER_STOP_TIMEOUT`.
pub const STOP_TIMEOUT_SECS_DEFAULT: u32 = 30;
/// ECS: `startTimeout` is at least 2 s and without a cap on instances; here the same as stopping.
pub const START_TIMEOUT_SECS_MIN: u32 = 2;
pub const START_TIMEOUT_SECS_MAX: u32 = 3600;
/// ECS: ranges and defaults of a container's `healthCheck`.
pub const HEALTH_INTERVAL_SECS: std::ops::RangeInclusive<u32> = 5..=300;
pub const HEALTH_INTERVAL_SECS_DEFAULT: u32 = 30;
pub const HEALTH_TIMEOUT_SECS: std::ops::RangeInclusive<u32> = 2..=60;
pub const HEALTH_TIMEOUT_SECS_DEFAULT: u32 = 5;
pub const HEALTH_RETRIES: std::ops::RangeInclusive<u32> = 1..=10;
pub const HEALTH_RETRIES_DEFAULT: u32 = 3;
pub const HEALTH_START_PERIOD_SECS: std::ops::RangeInclusive<u32> = 0..=300;
/// ECS: `restartPolicy`.
pub const RESTART_PERIOD_SECS: std::ops::RangeInclusive<u32> = 60..=1800;
pub const RESTART_PERIOD_SECS_DEFAULT: u32 = 300;
pub const IGNORED_EXIT_CODES_MAX: usize = 50;
/// Dynamic host ports, as Linux's `ip_local_port_range` and ECS's agent.
pub const DYNAMIC_PORTS: std::ops::RangeInclusive<u16> = 32768..=60999;
/// A reason, as ECS stores it for a container or a task.
pub const REASON_CHARS_MAX: usize = 1024;

/// About 2 KiB each; they are never removed, so that any task can be explained.
pub const DEFINITIONS_MAX: usize = 100_000;
/// ECS: revisions of a family.
pub const REVISIONS_PER_FAMILY_MAX: usize = 1_000_000;
/// Older deployments that are still being drained are forgotten beyond this many.
pub const DEPLOYMENTS_PER_SERVICE_MAX: usize = 10;
/// Deployments that are over, remembered per service beside those; some 150 bytes each.
pub const PAST_DEPLOYMENTS_MAX: usize = 10;
/// ECS: the circuit breaker's threshold, unless it is tuned.
pub const BREAKER_MIN: u32 = 3;
pub const BREAKER_MAX: u32 = 200;
/// A tuned threshold, as a count or in percent: as many as a service may have tasks.
pub const BREAKER_VALUE_MAX: u32 = DESIRED_COUNT_MAX;
/// Raft members at once; more than 7 only slow commits down.
pub const MANAGERS_MAX: usize = 9;
/// Users, removed ones included.
pub const USERS_MAX: usize = 10_000;
/// Certificates of one user that are accepted; beyond it the oldest is refused first.
pub const USER_CERTIFICATES_MAX: usize = 32;
/// IAM allows 2; teams share a user here more often than there, and a key is some 150 bytes.
pub const ACCESS_KEYS_PER_USER_MAX: usize = 8;
/// A secret of 40 characters with its form (1 byte), nonce (12) and tag (16) takes 69.
pub const SEALED_SECRET_BYTES_MAX: usize = 128;
/// A P-256 key in PKCS #8 takes 138 bytes, 184 as text, 213 sealed.
pub const SEALED_SIGNING_KEY_BYTES_MAX: usize = 512;
/// A point of P-256, uncompressed: its form and two coordinates.
pub const PUBLIC_KEY_BYTES_MAX: usize = 65;
/// IAM: policies attached to one user or role.
pub const POLICIES_PER_HOLDER_MAX: usize = 10;
/// All policies: 60 MiB if every one is as long as it may be.
pub const POLICIES_MAX: usize = 10_000;
/// IAM: a managed policy. Here white space counts too.
pub const POLICY_CHARS_MAX: usize = 6144;
/// IAM: a policy's name.
pub const POLICY_NAME_CHARS_MAX: usize = 128;
/// IAM: a role's name.
pub const ROLE_NAME_CHARS_MAX: usize = 64;
/// Whom a task's identity is for: OpenID Connect's bound of a client's id elsewhere, 255.
pub const AUDIENCE_CHARS_MAX: usize = 255;

/// AWS Secrets Manager: the value of a secret.
pub const SECRET_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Such a value with its form (1 byte), nonce (12) and tag (16).
pub const SEALED_VALUE_BYTES_MAX: usize = SECRET_VALUE_BYTES_MAX + 29;
/// Versions of a secret that can be referred to: the newest, and some to go back to.
pub const SECRET_VERSIONS_MAX: usize = 5;
/// Configs are counted with them. One for each of some thousand services.
pub const SECRETS_MAX: usize = 5000;
/// All versions of all secrets and configs: they are in memory and in every snapshot. At an
/// ordinary hundred bytes each it is never reached.
pub const SEALED_VALUES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A member of a secret whose value is JSON.
pub const SECRET_KEY_CHARS_MAX: usize = 255;
/// What one task is given, values and names of variables together: Linux takes some 2 MiB of
/// arguments and environment for one process.
pub const TASK_SECRETS_BYTES_MAX: usize = 1024 * 1024;
/// ECS: environment files of one container.
pub const ENVIRONMENT_FILES_MAX: usize = 10;
/// Files of one container that are secrets or configs: each is a mount.
pub const CONTAINER_FILES_MAX: usize = 100;
/// Secrets of one container: as many as fit a definition of ECS's size.
pub const CONTAINER_SECRETS_MAX: usize = 500;

// ---- schedules ----

/// EventBridge allows a million per region; a row here has some 2 KiB, with long overrides 12.
pub const SCHEDULES_MAX: usize = 10_000;
/// EventBridge: a schedule's name.
pub const SCHEDULE_NAME_CHARS_MAX: usize = 64;
/// What became of the last due times, per schedule; a started one of ten tasks has 200 bytes.
pub const SCHEDULE_RUNS_KEPT: usize = 20;
/// Runs of one schedule whose tasks go on at once. Less than are kept, so that there is always one
/// that can be forgotten.
pub const SCHEDULE_OPEN_RUNS_MAX: usize = 10;
/// EventBridge invokes within the minute that is due.
pub const SCHEDULE_PUNCTUAL: Millis = Millis::from_secs(60);
/// EventBridge: `maximumEventAgeInSeconds`.
pub const SCHEDULE_WITHIN_SECS_MIN: u32 = 60;
pub const SCHEDULE_WITHIN_SECS_MAX: u32 = 86_400;

// ---- jobs ----

/// Jobs that have not ended; a row has some 300 bytes, with long overrides 10 KiB.
pub const JOBS_MAX: usize = 10_000;
/// As a schedule's: with `job/` before it, it is ECS's `startedBy`, of at most 128 characters.
pub const JOB_NAME_CHARS_MAX: usize = SCHEDULE_NAME_CHARS_MAX;
/// AWS Batch: the size of an array job.
pub const JOB_COMPLETIONS_MAX: u32 = 10_000;
/// As many as there are completions: what fails more often than not is not a job.
pub const JOB_RETRIES_MAX: u32 = JOB_COMPLETIONS_MAX;
/// Kubernetes: `backoffLimit`.
pub const JOB_RETRIES_DEFAULT: u32 = 6;
/// 14 days: AWS Batch's longest on Fargate.
pub const JOB_TIMEOUT_SECS_MAX: u32 = 1_209_600;
/// Ended jobs that can still be described; the longest ended are forgotten first.
pub const ENDED_JOBS_PER_CLUSTER_MAX: usize = 500;

// ---- history ----

/// Deleted clusters that can still be described.
pub const INACTIVE_CLUSTERS_MAX: usize = 100;
/// Deleted capacity providers that can still be described.
pub const INACTIVE_CAPACITY_PROVIDERS_MAX: usize = 100;
/// An entry remembers at most one request and forgets at most this many old ones.
pub const REQUESTS_FORGOTTEN_PER_ENTRY: usize = 8;

/// ECS: a stopped task is shown for at least an hour.
pub const STOPPED_TASK_KEPT: Millis = Millis::from_secs(3600);
/// Stopped tasks kept per service, whatever their age: crash loops must not fill the state. As many
/// of a group's that found no place.
pub const STOPPED_TASKS_PER_SERVICE_MAX: usize = 50;
/// The same for tasks that were run, per group: by default all of a family.
pub const STOPPED_TASKS_PER_GROUP_MAX: usize = 5000;
/// Of all together.
pub const STOPPED_TASKS_MAX: usize = 100_000;
/// ECS: the newest 100 events of a service.
pub const EVENTS_PER_SERVICE_MAX: usize = 100;
/// ECS: a client token is honoured for 24 hours.
pub const REQUEST_KEPT: Millis = Millis::from_secs(24 * 3600);
/// Bound of remembered requests (about 100 bytes each); the oldest go first.
pub const REQUESTS_MAX: usize = 200_000;
/// A deleted service stays describable as INACTIVE this long.
pub const INACTIVE_SERVICE_KEPT: Millis = Millis::from_secs(24 * 3600);
/// Versions of the state that a watch can resume from.
pub const WATCH_HISTORY_MAX: usize = 4096;

// ---- deployments that shift traffic: ECS's bounds ----

/// 24 hours: `bakeTimeInMinutes` and what is waited for between steps.
pub const BAKE_MINUTES_MAX: u32 = 1440;
/// `linearConfiguration.stepPercent`, in tenths of a percent.
pub const STEP_PERMILLE_MIN: u16 = 30;
/// `canaryConfiguration.canaryPercent`, likewise.
pub const CANARY_PERMILLE_MIN: u16 = 1;
/// `timeoutConfiguration.timeoutInMinutes` of a lifecycle hook: up to 14 days.
pub const HOOK_TIMEOUT_MINUTES_MAX: u32 = 20160;
pub const HOOK_TIMEOUT_MINUTES_DEFAULT: u32 = 1440;
/// One for each stage that can have one; more would have nothing to do.
pub const HOOKS_MAX: usize = 8;
/// Of the endpoint of a hook: what proxies and servers take for certain.
pub const HOOK_URL_BYTES_MAX: usize = 2048;
/// `hookDetails` of a hook, names and values together: they are in every version of the service.
pub const HOOK_DETAILS_BYTES_MAX: usize = 4096;

// ---- task sets ----

/// Of one service, those that drain included: two serve at a time.
pub const TASK_SETS_MAX: usize = 5;
/// `externalId` of one; a release's name.
pub const EXTERNAL_ID_CHARS_MAX: usize = 255;

// ---- alarms ----

/// Some for each of a thousand services; CloudWatch's page of them has 100.
pub const ALARMS_MAX: usize = 5000;
/// `deploymentConfiguration.alarms.alarmNames` of one service.
pub const DEPLOYMENT_ALARMS_MAX: usize = 20;
/// How long a rolling deployment's alarms are watched once it is whole. ECS computes it from their
/// periods, which are not known here: four evaluations of Prometheus's rules at its default of
/// 15 s.
pub const ALARM_BAKE: Millis = Millis::from_secs(60);

// ---- the leader ----

/// One plan entry, while what lost instances ran is replaced: steps and, roughly, bytes. Larger
/// plans would delay heartbeats' commit; ones a quarter as large replace half as fast.
pub const PLAN_STEPS_MAX: usize = 5000;
/// A plan otherwise: it places as fast as longer ones do, and each is committed sooner.
pub const PLAN_STEPS_USUAL: usize = 1250;
/// Plans stay long for so long after the last one that lost an instance or gave a task up.
pub const RECOVERY: Millis = Millis::from_secs(5);
/// A plan while tasks that are run wait among others: over soon, so that the next can have them.
pub const PLAN_STEPS_SHORT: usize = 500;
/// Plans stay short for so long after the last such task: others follow.
pub const HURRY: Millis = Millis::from_secs(1);
pub const PLAN_BYTES_MAX: usize = 256 * 1024;
/// The agent says it is alive this often (with jitter).
pub const HEARTBEAT: Millis = Millis(2000);
/// Three missed heartbeats: the instance is lost.
pub const LEASE: Millis = Millis(6000);
/// A new leader waits this long for every agent to reconnect before it judges any.
pub const LEASE_GRACE: Millis = Millis(8000);
/// The agent of a strict singleton stops it when no leader has confirmed a heartbeat sent within
/// this: five heartbeats, and longer than an election.
pub const STRICT_CONTACT: Millis = Millis::from_secs(10);
/// Beyond the container's stop timeout: then its shim kills it, with or without an agent.
pub const STRICT_KILL: Millis = Millis::from_secs(1);
/// What the clocks of two machines may differ by over the whole wait, and dying may take.
pub const STRICT_MARGIN: Millis = Millis::from_secs(2);
/// Tasks of services that are read for one plan, by their desired counts: a few milliseconds. The
/// services that are left have their turn in the next, or at once if this one would be empty.
pub const PLAN_READS_MAX: usize = 10_000;
/// Every row is looked at this often, whatever the diffs said.
pub const FULL_SCAN: Millis = Millis::from_secs(30);
/// Governor: lost instances in one lease beyond which nothing is abandoned at first ...
pub const GOVERNOR_INSTANCES_MIN: usize = 10;
/// ... if they are also more than one in this many of all instances ...
pub const GOVERNOR_SHARE: usize = 3;
/// ... and more than one in this many of them are not in the zone that lost most.
pub const GOVERNOR_LATE_SHARE: usize = 10;
/// First delay of the restart back-off; doubles with each failure in a row.
pub const BACKOFF_BASE: Millis = Millis(1000);
/// ECS throttles up to 27 minutes; five minutes is what Kubernetes users know.
pub const BACKOFF_MAX: Millis = Millis::from_secs(300);
/// A failed start this long after the last delay ended begins a new streak: between them some task
/// ran, or at least pulled, for longer than any pull may take.
pub const BACKOFF_FORGET: Millis = Millis::from_secs(900);
/// A container that ends sooner than this after starting counts as a failed start.
pub const QUICK_EXIT: Millis = Millis::from_secs(10);
/// ECS waits 40 s after RUNNING before a task without any check counts as healthy. A cluster's
/// setting may say otherwise: `State::healthy_after`.
pub const HEALTHY_AFTER: Millis = Millis::from_secs(10);
/// An hour: whoever waits longer wants a health check.
pub const HEALTHY_AFTER_SECS_MAX: u64 = 3600;
/// Zone rebalancing: a tenth of a service moves at once, but never more tasks than this.
pub const REBALANCE_TASKS_MAX: usize = 100;
/// No task moves this soon after one of the service ended by itself: where it could not run it is
/// started once a minute, not all the time.
pub const REBALANCE_PAUSE: Millis = Millis::from_secs(60);
/// Same text about the same service is suppressed for this long (ECS: 6 hours).
pub const EVENT_REPEAT: Millis = Millis::from_secs(6 * 3600);
/// Instances that a deregistered or lost row is kept for, so that its certificate stays refused.
pub const INACTIVE_INSTANCE_KEPT: Millis = Millis::from_secs(24 * 3600);

/// Rounds that a foresight looks ahead: an update of ten thousand tasks in steps of a hundred.
pub const FORESEE_ROUNDS_MAX: usize = 200;
/// Placements of a foresight that come with reasons: each looks at every instance once more.
pub const FORESEE_REASONS_MAX: usize = 100;
