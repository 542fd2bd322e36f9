"""Real containers on a cluster of machines, through the wire door of one manager.

lab.py NAME: what it makes begins with NAME.
"""

import itertools
import os
import subprocess
import sys
import threading

import boto3
from common import SOON, client, eventually, every, refused, run

NAME = sys.argv[1]
ecs = client()
FIELDS = {"cluster": "default"}


def define(family, *command, **more):
    container = {
        "name": "main", "image": os.environ["IMAGE"], "cpu": 16, "memory": 16,
        "command": ["/bin/busybox", *command], "stopTimeout": 2, **more,
    }
    words = {"family": f"{NAME}-{family}", "containerDefinitions": [container]}
    return ecs.register_task_definition(**words)["taskDefinition"]["taskDefinitionArn"]


def wait(name, **words):
    ecs.get_waiter(name).wait(cluster="default", WaiterConfig=SOON, **words)


def homes_of(service):
    arns = ecs.list_tasks(cluster="default", serviceName=service)["taskArns"]
    rows = ecs.describe_tasks(cluster="default", tasks=arns)["tasks"] if arns else []
    return [row["containerInstanceArn"] for row in rows if row["lastStatus"] == "RUNNING"]


def a_task_runs_ends_and_leaves_its_output():
    """register -> run-task -> waiters -> exit code and logs."""
    definition = define("short", "sh", "-c", "echo to be read; sleep 3; exit 3")
    answer = ecs.run_task(taskDefinition=definition, startedBy="lab", group="lab")
    assert answer["failures"] == [], answer
    arn = answer["tasks"][0]["taskArn"]
    assert answer["tasks"][0]["lastStatus"] in ("PROVISIONING", "PENDING", "ACTIVATING", "RUNNING")
    wait("tasks_stopped", tasks=[arn])
    task = ecs.describe_tasks(tasks=[arn])["tasks"][0]
    assert (task["desiredStatus"], task["stopCode"]) == ("STOPPED", "EssentialContainerExited")
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["containers"][0]["exitCode"] == 3
    order = [
        "createdAt", "pullStartedAt", "pullStoppedAt", "startedAt", "stoppingAt", "stoppedAt",
    ]
    times = [task[each] for each in order]
    assert times == sorted(times), dict(zip(order, times))
    said = subprocess.check_output([os.environ["MUSTER"], "task", "logs", arn], text=True)
    assert "to be read" in said, said


def an_image_that_is_not_there_is_said_as_ecs_says_it():
    """TaskFailedToStart, and the agent's name for what went wrong."""
    definition = define("lost", "true", image=os.environ["IMAGE"].rsplit(":", 1)[0] + ":none")
    arn = ecs.run_task(taskDefinition=definition)["tasks"][0]["taskArn"]
    wait("tasks_stopped", tasks=[arn])
    task = ecs.describe_tasks(tasks=[arn])["tasks"][0]
    assert task["stopCode"] == "TaskFailedToStart", task
    said = task["stoppedReason"] + task["containers"][0].get("reason", "")
    assert "CannotPullImageManifestError" in said, said


# ECS's order. DEACTIVATING and DEPROVISIONING have no work here (no target groups, no network
# interfaces of tasks), and ECS skips what has no work.
RUNGS = [
    "PROVISIONING", "PENDING", "ACTIVATING", "RUNNING",
    "DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED",
]
SHOWN = set(RUNGS) - {"DEACTIVATING", "DEPROVISIONING"}


class Watcher(threading.Thread):
    """Polls DescribeTasks at every manager in turn, and fails as soon as anything goes back."""

    def __init__(self):
        super().__init__(daemon=True)
        doors = os.environ["MANAGERS"].split()
        self.at = [boto3.client("ecs", endpoint_url=door) for door in doors]
        self.tasks, self.seen, self.last, self.wrong = [], {}, {}, None
        self.over = threading.Event()

    def run(self):
        for polls in itertools.count():
            if self.over.is_set() or self.wrong:
                return
            try:
                self.look(self.at[polls % len(self.at)])
            except Exception as error:
                self.wrong = repr(error)

    def look(self, manager):
        for first in range(0, len(self.tasks), 100):
            for row in manager.describe_tasks(tasks=self.tasks[first:first + 100])["tasks"]:
                self.heard(row)

    def heard(self, row):
        arn, status, version = row["taskArn"], row["lastStatus"], row["version"]
        wanted = ["RUNNING", "STOPPED"].index(row["desiredStatus"])
        now = {"lastStatus": RUNGS.index(status), "desiredStatus": wanted, "version": version}
        for name, value in self.last.get(arn, now).items():
            assert value <= now[name], f"{arn}: {name} goes back: {self.last[arn]}, {now}"
        self.last[arn] = now
        seen = self.seen.setdefault(arn, [])
        if status not in seen:
            seen.append(status)

    def wait(self, arn, *rungs):
        """Until the task was seen on these rungs; all that it was seen on."""

        def look():
            assert not self.wrong, self.wrong
            return set(rungs) <= set(self.seen.get(arn, []))

        eventually(f"{arn} is shown {rungs}: {self.seen}", look)
        return self.seen[arn]


def what_is_shown_of_a_task_only_moves_forward():
    """PROVISIONING to STOPPED in ECS's order, whichever manager is asked."""
    image = os.environ["IMAGE"]
    first = {"name": "first", "image": image, "essential": False, "memory": 16,
             "command": ["/bin/busybox", "sleep", "3"]}
    deaf = {"name": "main", "image": image, "memory": 16, "stopTimeout": 4,
            "dependsOn": [{"containerName": "first", "condition": "SUCCESS"}],
            "command": ["/bin/busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"]}
    family, service = f"{NAME}-rungs", f"{NAME}-rungs"
    ecs.register_task_definition(family=family, containerDefinitions=[first, deaf])
    homes = every(ecs, "list_container_instances", "containerInstanceArns")
    change = lambda status: ecs.update_container_instances_state(
        containerInstances=homes, status=status
    )
    watcher = Watcher()
    watcher.start()
    try:
        # Nothing takes it: it waits to be placed.
        change("DRAINING")
        ecs.create_service(serviceName=service, taskDefinition=family, desiredCount=1)
        listed = lambda: ecs.list_tasks(serviceName=service)["taskArns"]
        [task] = eventually("the service has a task", listed)
        watcher.tasks = [task]
        watcher.wait(task, "PROVISIONING")
        change("ACTIVE")
        watcher.wait(task, "RUNNING")
        # Two that end by themselves: one runs, and one never can.
        short = define("rungs-short", "sleep", "1")
        lost = define("rungs-lost", "true", image=image.rsplit(":", 1)[0] + ":none")
        short, lost = (
            ecs.run_task(taskDefinition=each)["tasks"][0]["taskArn"] for each in (short, lost)
        )
        watcher.tasks = [task, short, lost]
        watcher.wait(short, "RUNNING", "STOPPED")
        assert "RUNNING" not in watcher.wait(lost, "STOPPED")
        ecs.delete_service(service=service, force=True)
        seen = watcher.wait(task, "PROVISIONING", "ACTIVATING", "RUNNING", "STOPPING", "STOPPED")
    finally:
        change("ACTIVE")
        watcher.over.set()
        watcher.join(timeout=60)
    assert set().union(*watcher.seen.values()) <= SHOWN, watcher.seen
    assert seen == [each for each in RUNGS if each in seen], seen


def a_service_is_rolled_out_and_back():
    """create -> stable -> update -> rollback by revision -> delete."""
    one, two = define("web", "sleep", "1000"), define("web", "sleep", "2000")
    name = f"{NAME}-web"
    ecs.create_service(serviceName=name, taskDefinition=one, desiredCount=2)
    for definition in (one, two, one):
        ecs.update_service(service=name, taskDefinition=definition)
        wait("services_stable", services=[name])
        row = ecs.describe_services(services=[name])["services"][0]
        assert row["taskDefinition"] == definition
        assert [each["taskDefinition"] for each in row["deployments"]] == [definition]
        arns = ecs.list_tasks(serviceName=name)["taskArns"]
        running = ecs.describe_tasks(tasks=arns)["tasks"]
        assert {task["taskDefinitionArn"] for task in running} == {definition}
    said = [each["message"] for each in row["events"]]
    assert any("has started 2 tasks" in each for each in said), said
    assert any("has stopped" in each for each in said), said
    ecs.delete_service(service=name, force=True)
    wait("services_inactive", services=[name])
    assert ecs.describe_services(services=[name])["services"][0]["status"] == "INACTIVE"


def a_protected_task_outlives_scaling_in_and_a_deployment():
    """UpdateTaskProtection: neither takes it, whatever else goes; both do once it is over."""
    first, second = define("guarded", "sleep", "100000"), define("guarded", "sleep", "100001")
    service = f"{NAME}-guarded"
    ecs.create_service(serviceName=service, taskDefinition=first, desiredCount=3)
    wait("services_stable", services=[service])
    listed = lambda: set(ecs.list_tasks(serviceName=service)["taskArns"])
    chosen = sorted(listed())[1]
    guard = lambda on: ecs.update_task_protection(
        cluster="default", tasks=[chosen], protectionEnabled=on
    )
    shown = guard(True)["protectedTasks"]
    assert [(row["taskArn"], row["protectionEnabled"]) for row in shown] == [(chosen, True)], shown
    ecs.update_service(service=service, desiredCount=1)
    eventually("only the protected one is left", lambda: listed() == {chosen})
    ecs.update_service(service=service, taskDefinition=second)
    both = lambda: len(homes_of(service)) == 2
    eventually("the second revision runs beside it", both)
    rows = ecs.describe_services(services=[service])["services"][0]["deployments"]
    assert [row["rolloutState"] for row in rows][0] == "IN_PROGRESS", rows
    assert chosen in listed()
    guard(False)
    wait("services_stable", services=[service])
    assert chosen not in listed()
    ecs.delete_service(service=service, force=True)


def a_drained_instance_gives_its_service_away():
    """DRAINING moves the tasks of a service, and ACTIVE takes new ones."""
    definition, name = define("drain", "sleep", "1000"), f"{NAME}-drain"
    ecs.create_service(serviceName=name, taskDefinition=definition, desiredCount=2)
    wait("services_stable", services=[name])
    homes = every(ecs, "list_container_instances", "containerInstanceArns")
    assert len(homes) == 2 and set(homes_of(name)) == set(homes), "spread over both"
    change = lambda status: ecs.update_container_instances_state(
        containerInstances=[homes[0]], status=status
    )["containerInstances"][0]["status"]
    assert change("DRAINING") == "DRAINING"
    eventually("the tasks moved", lambda: homes_of(name) == [homes[1], homes[1]])
    assert change("ACTIVE") == "ACTIVE"
    ecs.delete_service(service=name, force=True)
    wait("services_inactive", services=[name])


def a_daemon_has_one_task_on_each_instance():
    """DAEMON: one on each, none where it is drained, one again where it is back."""
    definition, service = define("daemon", "sleep", "100000"), f"{NAME}-daemon"
    homes = every(ecs, "list_container_instances", "containerInstanceArns")
    words = {"serviceName": service, "taskDefinition": definition}
    ecs.create_service(schedulingStrategy="DAEMON", **words)
    there = lambda wanted: lambda: sorted(homes_of(service)) == sorted(wanted)
    eventually("one task on each instance", there(homes))
    change = lambda status: ecs.update_container_instances_state(
        containerInstances=homes[:1], status=status
    )
    change("DRAINING")
    try:
        eventually("none on the one that drains", there(homes[1:]))
        shown = ecs.describe_services(services=[service])["services"][0]
        assert shown["desiredCount"] == len(homes) - 1, shown
    finally:
        change("ACTIVE")
    eventually("one on each again", there(homes))
    ecs.delete_service(service=service, force=True)


def tags_travel_and_lists_have_pages():
    """What is tagged is shown; every page is bounded."""
    tags = [{"key": "team", "value": NAME}]
    made = ecs.create_cluster(clusterName=f"{NAME}-empty", tags=tags)["cluster"]
    assert ecs.list_tags_for_resource(resourceArn=made["clusterArn"])["tags"] == tags
    ecs.untag_resource(resourceArn=made["clusterArn"], tagKeys=["team"])
    assert ecs.list_tags_for_resource(resourceArn=made["clusterArn"])["tags"] == []
    for _ in range(12):
        define("many", "true")
    pages = {"PageSize": 5}
    words = {"familyPrefix": f"{NAME}-many", "PaginationConfig": pages}
    assert len(every(ecs, "list_task_definitions", "taskDefinitionArns", **words)) == 12
    assert ecs.delete_cluster(cluster=f"{NAME}-empty")["cluster"]["status"] == "INACTIVE"


def lists_of_a_crowd_have_pages():
    """Each container is on one page while it runs, and still described when it has ended."""
    crowd = int(os.environ["CROWD"])
    small = {"cpu": 1, "memory": 8}
    definition = define("crowd", "sh", "-c", "trap exit TERM; sleep 600 & wait", **small)
    running = set()
    for _ in range(crowd // 10):
        answer = ecs.run_task(taskDefinition=definition, count=10)
        assert answer["failures"] == [], answer["failures"]
        running |= {task["taskArn"] for task in answer["tasks"]}
    assert len(running) == crowd
    words = {"family": f"{NAME}-crowd", "PaginationConfig": {"PageSize": 15}}
    assert set(every(ecs, "list_tasks", "taskArns", **words)) == running
    chunks = [sorted(running)[first:first + 100] for first in range(0, crowd, 100)]
    slow = {"Delay": 2, "MaxAttempts": 150}
    for chunk in chunks:
        ecs.get_waiter("tasks_running").wait(tasks=chunk, WaiterConfig=slow)
    for arn in running:
        ecs.stop_task(task=arn)
    for chunk in chunks:
        ecs.get_waiter("tasks_stopped").wait(tasks=chunk, WaiterConfig=slow)
        rows = ecs.describe_tasks(tasks=chunk)["tasks"]
        assert len(rows) == len(chunk) and all(row["containers"][0]["runtimeId"] for row in rows)
    stopped = every(ecs, "list_tasks", "taskArns", desiredStatus="STOPPED", **words)
    assert set(stopped) == running


def what_a_definition_requires_every_instance_has():
    """requiresAttributes and the attributes that agents register, as placement tools compare them."""
    check = {"command": ["CMD", "/bin/busybox", "true"]}
    arn = define("logs", "true", logConfiguration={"logDriver": "json-file"}, healthCheck=check)
    definition = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
    required = {each["name"] for each in definition["requiresAttributes"]}
    assert required == {
        "com.amazonaws.ecs.capability.logging-driver.json-file",
        "ecs.capability.container-health-check",
        "ecs.capability.container-ordering",
    }, required
    homes = every(ecs, "list_container_instances", "containerInstanceArns")
    rows = ecs.describe_container_instances(containerInstances=homes)["containerInstances"]
    for row in rows:
        assert required <= {each["name"] for each in row["attributes"]}, row["attributes"]


def who_signs_is_who_may():
    """A viewer reads and changes nothing; wrong keys are told apart, in AWS's words."""
    as_if = lambda key, secret: boto3.client(
        "ecs", aws_access_key_id=key, aws_secret_access_key=secret
    )
    eve = as_if(os.environ["VIEWER_KEY_ID"], os.environ["VIEWER_SECRET"])
    assert eve.list_clusters()["clusterArns"]
    assert refused(eve.create_cluster, clusterName="eves")[0] == "AccessDeniedException"
    wrong = as_if(os.environ["VIEWER_KEY_ID"], "not the secret")
    assert refused(wrong.list_clusters)[0] == "InvalidSignatureException"
    nobody = as_if("AKIAIOSFODNN7EXAMPLE", "made up")
    assert refused(nobody.list_clusters) == (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )
    me = boto3.client("sts").get_caller_identity()
    assert me["Arn"].endswith("user/admin") and len(me["Account"]) == 12, me
    elsewhere = boto3.client("ecs", region_name="eu-west-3")
    assert refused(elsewhere.list_clusters)[0] == "InvalidSignatureException"


def refusals_are_ecs_own():
    """The classes that a machine's cluster gives."""
    service, definition = f"{NAME}-idle", define("idle", "true")
    ecs.create_service(serviceName=service, taskDefinition=definition, desiredCount=0)
    for name, call, words in [
        ("ClusterNotFoundException", ecs.list_tasks, {"cluster": "none"}),
        ("ServiceNotFoundException", ecs.update_service, {"service": "none"}),
        ("ClientException", ecs.describe_task_definition, {"taskDefinition": "none"}),
        ("InvalidParameterException", ecs.describe_tasks, {"tasks": []}),
        ("ClusterContainsServicesException", ecs.delete_cluster, FIELDS),
        ("UnsupportedFeatureException", ecs.register_container_instance, FIELDS),
    ]:
        assert refused(call, **words)[0] == name, (name, words)
    token = {"taskDefinition": define("token", "true"), "clientToken": f"{NAME}-once"}
    first = ecs.run_task(**token)["tasks"][0]["taskArn"]
    assert ecs.run_task(**token)["tasks"][0]["taskArn"] == first
    assert refused(ecs.run_task, **token, count=2)[0] == "ConflictException"
    ecs.delete_service(service=service)


run(
    a_task_runs_ends_and_leaves_its_output,
    an_image_that_is_not_there_is_said_as_ecs_says_it,
    what_is_shown_of_a_task_only_moves_forward,
    a_service_is_rolled_out_and_back,
    a_protected_task_outlives_scaling_in_and_a_deployment,
    a_drained_instance_gives_its_service_away,
    a_daemon_has_one_task_on_each_instance,
    tags_travel_and_lists_have_pages,
    lists_of_a_crowd_have_pages,
    what_a_definition_requires_every_instance_has,
    who_signs_is_who_may,
    refusals_are_ecs_own,
)
