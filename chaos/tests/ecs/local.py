"""Test suites written for a mocked ECS, against a local ECS of simulated instances."""

import json
import os
import urllib.error
import urllib.request

from common import SOON, client, eventually, every, refused, run

ecs = client()
ACCOUNT = "arn:aws:ecs:eu-central-1:123456789012"
DEFAULT_PORTS = {"22", "2375", "2376", "51678", "51679"}
NOBODY = "0123456789abcdef0123456789abcdef"


def reset():
    url = os.environ["AWS_ENDPOINT_URL_ECS"] + "/_muster/reset"
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30).read()


def cluster(name="lab"):
    reset()
    return ecs.create_cluster(clusterName=name)["cluster"]


def instance(name="lab", number=0, **more):
    document = {
        "instanceId": f"i-{number:017x}",
        "instanceType": "t3.medium",
        "imageId": "ami-0abc",
        "availabilityZone": "eu-central-1" + "abc"[number % 3],
        "region": "eu-central-1",
    }
    words = {"cluster": name, "instanceIdentityDocument": json.dumps(document), **more}
    return ecs.register_container_instance(**words)["containerInstance"]


def define(family="web", **more):
    container = {"name": "main", "image": "busybox", "cpu": 8, "memory": 8, **more}
    answer = ecs.register_task_definition(family=family, containerDefinitions=[container])
    return answer["taskDefinition"]


def resources(row, which):
    by_name = {}
    for value in row[which]:
        number = value["type"] == "INTEGER"
        assert number == ("stringSetValue" not in value), value
        by_name[value["name"]] = value["integerValue" if number else "stringSetValue"]
    return by_name


def nothing_exists_until_it_is_made():
    """No `default` cluster, no instance, no definition after a reset."""
    reset()
    missing = ("ClusterNotFoundException", "Cluster not found.")
    assert ecs.list_clusters()["clusterArns"] == []
    for call, words in [
        (ecs.list_services, {}),
        (ecs.list_tasks, {}),
        (ecs.list_container_instances, {}),
        (ecs.describe_services, {"services": ["a"]}),
        (ecs.describe_tasks, {"tasks": [NOBODY]}),
        (ecs.delete_cluster, {"cluster": "none"}),
        (ecs.run_task, {"taskDefinition": "web"}),
        (ecs.create_service, {"serviceName": "web", "taskDefinition": "web"}),
        (ecs.register_container_instance, {}),
    ]:
        assert refused(call, **words) == missing, words
    failures = ecs.describe_clusters()["failures"]
    assert failures == [{"arn": f"{ACCOUNT}:cluster/default", "reason": "MISSING"}]
    assert ecs.list_task_definitions()["taskDefinitionArns"] == []
    assert ecs.create_cluster()["cluster"]["clusterName"] == "default"
    assert ecs.list_services()["serviceArns"] == []


def clusters_are_made_described_and_deleted():
    """The fields of a cluster, twice the same name, and INACTIVE after deletion."""
    made = cluster()
    assert made["clusterArn"] == f"{ACCOUNT}:cluster/lab"
    assert made["status"] == "ACTIVE"
    for count in ("registeredContainerInstances", "runningTasks", "pendingTasks", "activeServices"):
        assert made[count + "Count"] == 0, count
    again = ecs.create_cluster(clusterName="lab")["cluster"]
    assert again["clusterArn"] == made["clusterArn"]
    assert ecs.list_clusters()["clusterArns"] == [made["clusterArn"]]
    described = ecs.describe_clusters(clusters=["lab", made["clusterArn"], "none"])
    assert [row["clusterName"] for row in described["clusters"]] == ["lab", "lab"]
    assert described["failures"] == [{"arn": f"{ACCOUNT}:cluster/none", "reason": "MISSING"}]
    assert ecs.delete_cluster(cluster="lab")["cluster"]["status"] == "INACTIVE"
    assert ecs.list_clusters()["clusterArns"] == []


def definitions_have_revisions_that_begin_again_after_a_reset():
    """Revisions, families, INACTIVE ones, and the sentences of ECS."""
    reset()
    assert define()["taskDefinitionArn"] == f"{ACCOUNT}:task-definition/web:1"
    second = define(environment=[{"name": "A", "value": "1"}])
    assert second["revision"] == 2
    main = second["containerDefinitions"][0]
    assert (main["cpu"], main["memory"], main["essential"]) == (8, 8, True)
    assert main["environment"] == [{"name": "A", "value": "1"}]
    for always in ("portMappings", "mountPoints", "volumesFrom"):
        assert main[always] == [], always
    assert (second["status"], second["networkMode"], second["volumes"]) == ("ACTIVE", "bridge", [])
    define("other")
    arns = ecs.list_task_definitions()["taskDefinitionArns"]
    assert [arn.rsplit("/")[-1] for arn in arns] == ["other:1", "web:1", "web:2"]
    newest = ecs.list_task_definitions(familyPrefix="web", sort="DESC")["taskDefinitionArns"]
    assert [arn.rsplit("/")[-1] for arn in newest] == ["web:2", "web:1"]
    assert ecs.list_task_definition_families()["families"] == ["other", "web"]
    gone = ecs.deregister_task_definition(taskDefinition="web:2")["taskDefinition"]
    assert gone["status"] == "INACTIVE"
    inactive = ecs.list_task_definitions(status="INACTIVE")["taskDefinitionArns"]
    assert inactive == [f"{ACCOUNT}:task-definition/web:2"]
    latest = ecs.describe_task_definition(taskDefinition="web")["taskDefinition"]
    assert latest["revision"] == 1
    by_arn = ecs.describe_task_definition(taskDefinition=latest["taskDefinitionArn"])
    assert by_arn["taskDefinition"] == latest
    unable = ("ClientException", "Unable to describe task definition.")
    assert refused(ecs.describe_task_definition, taskDefinition="web:9") == unable
    assert refused(ecs.describe_task_definition, taskDefinition="none") == unable
    missing = refused(ecs.deregister_task_definition, taskDefinition="web")
    assert missing[1] == "Revision is missing.", missing
    bare = [{"name": "main", "image": "busybox"}]
    memory = refused(ecs.register_task_definition, family="bare", containerDefinitions=bare)
    assert memory == (
        "ClientException",
        "Invalid setting for container 'main'. At least one of 'memory' or 'memoryReservation' "
        "must be specified.",
    ), memory
    reset()
    assert define()["revision"] == 1, "revisions begin at 1 after a reset"


def an_instance_is_active_and_connected_when_it_is_registered():
    """An EC2 identity document becomes an instance with ECS's default resources."""
    cluster()
    row = instance()
    assert (row["status"], row["agentConnected"]) == ("ACTIVE", True)
    assert row["ec2InstanceId"] == f"i-{0:017x}"
    assert row["containerInstanceArn"].startswith(f"{ACCOUNT}:container-instance/lab/")
    for which in ("registeredResources", "remainingResources"):
        found = resources(row, which)
        assert (found["CPU"], found["MEMORY"]) == (4096, 7482), which
        assert set(found["PORTS"]) == DEFAULT_PORTS, which
        assert found["PORTS_UDP"] == [], which
    attributes = {each["name"]: each.get("value") for each in row["attributes"]}
    assert len(attributes) == 4, attributes
    assert attributes["ecs.instance-type"] == "t3.medium"
    assert attributes["ecs.availability-zone"] == "eu-central-1a"
    assert attributes["ecs.ami-id"] == "ami-0abc"
    described = ecs.describe_container_instances(
        cluster="lab", containerInstances=[row["containerInstanceArn"], NOBODY]
    )
    assert described["containerInstances"][0]["containerInstanceArn"] == row["containerInstanceArn"]
    assert described["failures"][0]["reason"] == "MISSING"
    other = instance(number=1, totalResources=[
        {"name": "CPU", "type": "INTEGER", "integerValue": 2048},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": 2048},
    ])
    assert resources(other, "registeredResources")["CPU"] == 2048
    assert len(every(ecs, "list_container_instances", "containerInstanceArns", cluster="lab")) == 2
    counted = ecs.describe_clusters(clusters=["lab"])["clusters"][0]
    assert counted["registeredContainerInstancesCount"] == 2


def tasks_run_before_run_task_answers():
    """RUNNING and STOPPED are there in the very answers; resources go and come back."""
    cluster()
    home = instance()["containerInstanceArn"]
    define(cpu=512, memory=256, portMappings=[{"containerPort": 80, "hostPort": 8080}])
    words = {"cluster": "lab", "taskDefinition": "web"}
    answer = ecs.run_task(**words, startedBy="me", group="batch")
    assert answer["failures"] == []
    task = answer["tasks"][0]
    assert (task["lastStatus"], task["desiredStatus"]) == ("RUNNING", "RUNNING")
    assert task["taskArn"].startswith(f"{ACCOUNT}:task/lab/")
    assert task["taskDefinitionArn"] == f"{ACCOUNT}:task-definition/web:1"
    assert task["containerInstanceArn"] == home
    assert (task["startedBy"], task["group"]) == ("me", "batch")
    assert (task["cpu"], task["memory"]) == ("512", "256")
    assert (task["launchType"], task["availabilityZone"]) == ("EC2", "eu-central-1a")
    container = task["containers"][0]
    assert (container["name"], container["lastStatus"]) == ("main", "RUNNING")
    binding = container["networkBindings"][0]
    assert (binding["containerPort"], binding["hostPort"]) == (80, 8080)
    used = ecs.describe_container_instances(cluster="lab", containerInstances=[home])
    left = resources(used["containerInstances"][0], "remainingResources")
    assert (left["CPU"], left["MEMORY"]) == (4096 - 512, 7482 - 256)
    assert set(left["PORTS"]) == DEFAULT_PORTS | {"8080"}
    assert used["containerInstances"][0]["runningTasksCount"] == 1
    taken = ecs.run_task(**words)
    assert (taken["tasks"], taken["failures"][0]["reason"]) == ([], "RESOURCE:PORTS")

    stopped = ecs.stop_task(cluster="lab", task=task["taskArn"], reason="enough")["task"]
    assert (stopped["lastStatus"], stopped["desiredStatus"]) == ("STOPPED", "STOPPED")
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "enough")
    assert ecs.list_tasks(cluster="lab")["taskArns"] == []
    assert ecs.list_tasks(cluster="lab", desiredStatus="STOPPED")["taskArns"]
    free = ecs.describe_container_instances(cluster="lab", containerInstances=[home])
    left = resources(free["containerInstances"][0], "remainingResources")
    assert (left["CPU"], left["MEMORY"]) == (4096, 7482)
    assert set(left["PORTS"]) == DEFAULT_PORTS


def tasks_run_before_start_task_answers():
    """One on each instance that is named, RUNNING in the very answer; the others are failures."""
    cluster()
    homes = [instance(number=number)["containerInstanceArn"] for number in range(2)]
    define(portMappings=[{"containerPort": 80, "hostPort": 8080}])
    words = {"cluster": "lab", "taskDefinition": "web", "startedBy": "me"}
    answer = ecs.start_task(**words, containerInstances=[*homes, NOBODY])
    assert [task["containerInstanceArn"] for task in answer["tasks"]] == homes
    for task in answer["tasks"]:
        assert (task["lastStatus"], task["desiredStatus"]) == ("RUNNING", "RUNNING")
        assert (task["startedBy"], task["group"]) == ("me", "family:web")
        binding = task["containers"][0]["networkBindings"][0]
        assert (binding["containerPort"], binding["hostPort"]) == (80, 8080)
    assert [row["reason"] for row in answer["failures"]] == ["MISSING"]
    taken = ecs.start_task(**words, containerInstances=homes[:1])
    assert (taken["tasks"], taken["failures"][0]["reason"]) == ([], "RESOURCE:PORTS")
    assert taken["failures"][0]["arn"] == homes[0]
    none = refused(ecs.start_task, **words, containerInstances=[])
    assert none == ("ClientException", "Container Instances cannot be empty."), none


def what_does_not_fit_is_a_failure():
    """RunTask is not all or nothing."""
    cluster()
    instance()
    define("big", cpu=1500, memory=100)
    answer = ecs.run_task(cluster="lab", taskDefinition="big", count=3)
    assert len(answer["tasks"]) == 2, answer
    assert [row["reason"] for row in answer["failures"]] == ["RESOURCE:CPU"]
    define("fat", memory=7400)
    answer = ecs.run_task(cluster="lab", taskDefinition="fat")
    assert [row["reason"] for row in answer["failures"]] == ["RESOURCE:MEMORY"]


def lists_of_tasks_have_pages_and_filters():
    """250 tasks: every one once, page after page, and by each filter."""
    cluster()
    homes = [instance(number=number)["containerInstanceArn"] for number in range(2)]
    define()
    define("other")
    for number in range(25):
        words = {"taskDefinition": "web" if number % 5 else "other", "startedBy": f"by-{number}"}
        answer = ecs.run_task(cluster="lab", count=10, **words)
        assert (len(answer["tasks"]), answer["failures"]) == (10, [])
    for size in (100, 7):
        pages = {"PageSize": size}
        arns = every(ecs, "list_tasks", "taskArns", cluster="lab", PaginationConfig=pages)
        assert len(arns) == 250, size
    page = ecs.list_tasks(cluster="lab", maxResults=10)
    assert len(page["taskArns"]) == 10 and page["nextToken"]
    by = lambda **words: len(every(ecs, "list_tasks", "taskArns", cluster="lab", **words))
    assert by(family="other") == 50
    assert by(startedBy="by-7") == 10
    assert (by(launchType="EC2"), by(launchType="FARGATE")) == (250, 0)
    assert sum(by(containerInstance=home) for home in homes) == 250
    described = ecs.describe_tasks(cluster="lab", tasks=arns[:100])
    assert [task["taskArn"] for task in described["tasks"]] == arns[:100], "in the order asked for"
    name, _ = refused(ecs.describe_tasks, cluster="lab", tasks=arns[:101])
    assert name == "InvalidParameterException"
    assert ecs.describe_clusters(clusters=["lab"])["clusters"][0]["runningTasksCount"] == 250


def a_token_makes_a_run_happen_once():
    """The same token and words: the same tasks; other words: ConflictException."""
    cluster()
    instance()
    define()
    words = {"cluster": "lab", "taskDefinition": "web", "clientToken": "once"}
    arns = lambda answer: [task["taskArn"] for task in answer["tasks"]]
    first = arns(ecs.run_task(**words, count=2))
    assert arns(ecs.run_task(**words, count=2)) == first
    assert len(ecs.list_tasks(cluster="lab")["taskArns"]) == 2
    try:
        ecs.run_task(**words, count=3)
        raise AssertionError("a token with other words was accepted")
    except ecs.exceptions.ConflictException as conflict:
        assert set(conflict.response["resourceIds"]) == set(first)


def waiters_end():
    """tasks_running, tasks_stopped, services_stable and services_inactive of boto3."""
    cluster()
    instance()
    define()
    wait = lambda name, **words: ecs.get_waiter(name).wait(
        cluster="lab", WaiterConfig=SOON, **words
    )
    arn = ecs.run_task(cluster="lab", taskDefinition="web")["tasks"][0]["taskArn"]
    wait("tasks_running", tasks=[arn])
    ecs.stop_task(cluster="lab", task=arn)
    wait("tasks_stopped", tasks=[arn])
    ecs.create_service(cluster="lab", serviceName="web", taskDefinition="web", desiredCount=2)
    wait("services_stable", services=["web"])
    ecs.delete_service(cluster="lab", service="web", force=True)
    wait("services_inactive", services=["web"])


def services_scale_and_are_deleted():
    """Counts, deployments, a scale up and down, the refusals, INACTIVE at the end."""
    cluster()
    instance()
    define()
    words = {"cluster": "lab", "serviceName": "web", "taskDefinition": "web"}
    made = ecs.create_service(**words, desiredCount=2)["service"]
    assert made["serviceArn"] == f"{ACCOUNT}:service/lab/web"
    assert (made["status"], made["desiredCount"], made["runningCount"]) == ("ACTIVE", 2, 0)
    assert (made["launchType"], made["schedulingStrategy"]) == ("EC2", "REPLICA")
    for always in ("loadBalancers", "serviceRegistries", "events", "placementStrategy"):
        assert made[always] == [], always
    assert [each["status"] for each in made["deployments"]] == ["PRIMARY"]
    stable = ecs.get_waiter("services_stable")
    for count in (2, 5, 1):
        ecs.update_service(cluster="lab", service="web", desiredCount=count)
        stable.wait(cluster="lab", services=["web"], WaiterConfig=SOON)
        row = ecs.describe_services(cluster="lab", services=[made["serviceArn"]])["services"][0]
        assert (row["desiredCount"], row["runningCount"], row["pendingCount"]) == (count, count, 0)
        tasks = ecs.list_tasks(cluster="lab", serviceName="web")["taskArns"]
        assert len(tasks) == count
    assert ecs.list_services(cluster="lab")["serviceArns"] == [made["serviceArn"]]
    assert refused(ecs.create_service, **words, desiredCount=3) == (
        "InvalidParameterException",
        "Creation of service was not idempotent.",
    )
    assert refused(ecs.delete_service, cluster="lab", service="web") == (
        "InvalidParameterException",
        "The service cannot be stopped while it is scaled above 0.",
    )
    ecs.update_service(cluster="lab", service="web", desiredCount=0)
    assert ecs.delete_service(cluster="lab", service="web")["service"]["status"] == "DRAINING"
    ecs.get_waiter("services_inactive").wait(
        cluster="lab", services=["web"], WaiterConfig=SOON
    )
    refusal = refused(ecs.update_service, cluster="lab", service="web", desiredCount=1)
    assert refusal[0] in ("ServiceNotActiveException", "ServiceNotFoundException"), refusal
    assert ecs.list_services(cluster="lab")["serviceArns"] == []


def services_have_pages():
    """25 services, ten at a time."""
    cluster()
    define()
    for number in range(25):
        ecs.create_service(
            cluster="lab", serviceName=f"s{number:02}", taskDefinition="web", desiredCount=0
        )
    ten = {"PageSize": 10}
    arns = every(ecs, "list_services", "serviceArns", cluster="lab", PaginationConfig=ten)
    assert len(arns) == 25


def tags_are_set_shown_and_removed():
    """On clusters, services, tasks, instances and definitions, and in `include`."""
    reset()
    tags = [{"key": "team", "value": "blue"}]
    made = ecs.create_cluster(clusterName="lab", tags=tags)["cluster"]
    assert made["tags"] == tags
    home = instance(tags=tags)["containerInstanceArn"]
    container = {"name": "main", "image": "busybox", "memory": 8}
    web = ecs.register_task_definition(family="web", containerDefinitions=[container], tags=tags)
    assert web["tags"] == tags
    words = {"cluster": "lab", "taskDefinition": "web", "tags": tags}
    task = ecs.run_task(**words)["tasks"][0]["taskArn"]
    service = ecs.create_service(**words, serviceName="web", desiredCount=0)["service"]
    arns = [made["clusterArn"], home, task, service["serviceArn"]]
    for arn in arns:
        assert ecs.list_tags_for_resource(resourceArn=arn)["tags"] == tags, arn
        ecs.tag_resource(resourceArn=arn, tags=[{"key": "stage", "value": "test"}])
        both = ecs.list_tags_for_resource(resourceArn=arn)["tags"]
        assert {each["key"]: each["value"] for each in both} == {"team": "blue", "stage": "test"}
        ecs.untag_resource(resourceArn=arn, tagKeys=["team", "stage"])
        assert ecs.list_tags_for_resource(resourceArn=arn)["tags"] == [], arn
        ecs.tag_resource(resourceArn=arn, tags=tags)
    of_definition = web["taskDefinition"]["taskDefinitionArn"]
    assert ecs.list_tags_for_resource(resourceArn=of_definition)["tags"] == tags
    shown = ecs.describe_tasks(cluster="lab", tasks=[task], include=["TAGS"])["tasks"][0]
    assert shown["tags"] == tags
    hidden = ecs.describe_tasks(cluster="lab", tasks=[task])["tasks"][0]
    assert not hidden.get("tags")
    shown = ecs.describe_task_definition(taskDefinition="web", include=["TAGS"])
    assert shown["tags"] == tags
    missing = service["serviceArn"].replace("/web", "/none")
    assert refused(ecs.list_tags_for_resource, resourceArn=missing)[1] == "Service not found."


def tasks_get_tags_from_where_they_come_and_from_ecs():
    """`propagateTags` and `enableECSManagedTags`, of runs and of services."""
    cluster()
    home = instance()["containerInstanceArn"]
    words = {"family": "web", "tags": [{"key": "team", "value": "blue"}]}
    container = {"name": "main", "image": "busybox", "memory": 8}
    ecs.register_task_definition(containerDefinitions=[container], **words)

    def tags_of(arns):
        rows = ecs.describe_tasks(cluster="lab", tasks=arns, include=["TAGS"])["tasks"]
        return [{tag["key"]: tag["value"] for tag in row["tags"]} for row in rows]

    where = {"aws:ecs:clusterName": "lab"}
    run = {"cluster": "lab", "taskDefinition": "web", "tags": [{"key": "run", "value": "1"}]}
    every = {"propagateTags": "TASK_DEFINITION", "enableECSManagedTags": True}
    for answer in (
        ecs.run_task(**run, **every),
        ecs.start_task(**run, **every, containerInstances=[home]),
    ):
        arn = answer["tasks"][0]["taskArn"]
        assert tags_of([arn]) == [{"team": "blue", "run": "1", **where}], answer
    assert refused(ecs.run_task, **run, propagateTags="SERVICE")[0] == "InvalidParameterException"

    def of_service(**more):
        ecs.update_service(cluster="lab", service="web", forceNewDeployment=True, **more)
        ecs.get_waiter("services_stable").wait(
            cluster="lab", services=["web"], WaiterConfig=SOON
        )
        [tags] = tags_of(ecs.list_tasks(cluster="lab", serviceName="web")["taskArns"])
        return tags

    made = ecs.create_service(
        cluster="lab", serviceName="web", taskDefinition="web", desiredCount=1,
        enableECSManagedTags=True, propagateTags="SERVICE", tags=[{"key": "shop", "value": "7"}],
    )["service"]
    assert (made["enableECSManagedTags"], made["propagateTags"]) == (True, "SERVICE"), made
    where["aws:ecs:serviceName"] = "web"
    assert of_service() == {"shop": "7", **where}
    assert of_service(propagateTags="TASK_DEFINITION") == {"team": "blue", **where}
    assert of_service(propagateTags="NONE", enableECSManagedTags=False) == {}
    reserved = {"resourceArn": made["serviceArn"], "tagKeys": ["aws:ecs:clusterName"]}
    assert refused(ecs.untag_resource, **reserved)[0] == "InvalidParameterException"


def a_platform_chooses_the_instances_that_are_it():
    """`runtimePlatform`: an image of one architecture never runs on another."""
    cluster()

    def with_cpus(number, value):
        attributes = [{"name": "ecs.cpu-architecture", "value": value}]
        return instance(number=number, attributes=attributes)

    wanted = {"ARM64": with_cpus(1, "arm64"), "X86_64": with_cpus(2, "x86_64")}
    for architecture, only in wanted.items():
        platform = {"cpuArchitecture": architecture, "operatingSystemFamily": "LINUX"}
        container = [{"name": "main", "image": "busybox", "memory": 8}]
        ecs.register_task_definition(
            family="built", containerDefinitions=container, runtimePlatform=platform
        )
        tasks = ecs.run_task(cluster="lab", taskDefinition="built", count=4)["tasks"]
        on = {task["containerInstanceArn"] for task in tasks}
        assert len(tasks) == 4 and on == {only["containerInstanceArn"]}, (architecture, on)


def instances_are_drained_and_deregistered():
    """DRAINING gets no new task and loses its service's; forced deregistration empties it."""
    cluster()
    homes = [instance(number=number)["containerInstanceArn"] for number in range(2)]
    define()
    ecs.create_service(cluster="lab", serviceName="web", taskDefinition="web", desiredCount=4)
    stable = ecs.get_waiter("services_stable")
    stable.wait(cluster="lab", services=["web"], WaiterConfig=SOON)
    changed = ecs.update_container_instances_state(
        cluster="lab", containerInstances=[homes[0], NOBODY], status="DRAINING"
    )
    assert [row["status"] for row in changed["containerInstances"]] == ["DRAINING"]
    assert [row["reason"] for row in changed["failures"]] == ["MISSING"]
    by_status = ecs.list_container_instances(cluster="lab", status="DRAINING")
    assert by_status["containerInstanceArns"] == [homes[0]]
    for _ in range(60):
        stable.wait(cluster="lab", services=["web"], WaiterConfig=SOON)
        left = ecs.list_tasks(cluster="lab", containerInstance=homes[0])["taskArns"]
        if not left:
            break
    assert left == [], "a draining instance keeps tasks of a service"
    ran = ecs.run_task(cluster="lab", taskDefinition="web", count=3)["tasks"]
    assert {task["containerInstanceArn"] for task in ran} == {homes[1]}
    words = {"cluster": "lab", "containerInstance": homes[1]}
    assert refused(ecs.deregister_container_instance, **words) == (
        "InvalidParameterException",
        "Found running tasks on the instance.",
    )
    gone = ecs.deregister_container_instance(**words, force=True)["containerInstance"]
    assert gone["status"] == "INACTIVE"
    status = refused(
        ecs.update_container_instances_state,
        cluster="lab", containerInstances=[homes[0]], status="ASLEEP",
    )
    assert status[0] == "InvalidParameterException"


def refusals_are_ecs_own():
    """Each class of exception that can be met here, by boto3's own name for it."""
    cluster()
    define()
    empty = refused(ecs.run_task, cluster="lab", taskDefinition="web")
    assert empty == (
        "InvalidParameterException",
        "No Container Instances were found in your cluster.",
    ), empty
    instance()
    for name, says, call, words in [
        ("ClusterContainsContainerInstancesException",
         "The Cluster cannot be deleted while Container Instances are active or draining.",
         ecs.delete_cluster, {}),
        ("InvalidParameterException", "Tasks cannot be empty.", ecs.describe_tasks, {"tasks": []}),
        ("InvalidParameterException", "Services cannot be empty.",
         ecs.describe_services, {"services": []}),
        ("ClientException", "Container Instances cannot be empty.",
         ecs.describe_container_instances, {"containerInstances": []}),
        ("InvalidParameterException", "The referenced task was not found.",
         ecs.stop_task, {"task": NOBODY}),
        ("InvalidParameterException", "The referenced container instance was not found.",
         ecs.deregister_container_instance, {"containerInstance": NOBODY}),
        ("ServiceNotFoundException", "Service not found.", ecs.update_service, {"service": "a"}),
        ("ServiceNotFoundException", "Service not found.", ecs.delete_service, {"service": "a"}),
        ("ServiceNotFoundException", "Service not found.", ecs.list_tasks, {"serviceName": "a"}),
        ("ClientException", "Unable to describe task definition.",
         ecs.run_task, {"taskDefinition": "none"}),
    ]:
        assert refused(call, cluster="lab", **words) == (name, says), (name, words)
    for call, words in [
        (ecs.run_task, {"taskDefinition": "web", "count": 11}),
        (ecs.create_service, {"serviceName": "no spaces", "taskDefinition": "web"}),
        (ecs.list_tasks, {"nextToken": "made up"}),
    ]:
        assert refused(call, cluster="lab", **words)[0] == "InvalidParameterException", words
    provider = {"autoScalingGroupArn": "arn:aws:autoscaling:::autoScalingGroup:a"}
    made = ecs.create_capacity_provider(name="a", autoScalingGroupProvider=provider)
    assert made["capacityProvider"]["status"] == "ACTIVE", made
    name, says = refused(
        ecs.run_task, cluster="lab", taskDefinition="web",
        capacityProviderStrategy=[{"capacityProvider": "a"}],
    )
    assert (name, "capacity" in says) == ("UnsupportedFeatureException", True), says
    shown = ecs.describe_capacity_providers(capacityProviders=["a", "b"])
    assert [row["name"] for row in shown["capacityProviders"]] == ["a"], shown
    assert [row["reason"] for row in shown["failures"]] == ["MISSING"]
    ecs.delete_capacity_provider(capacityProvider="a")
    ecs.create_service(cluster="lab", serviceName="web", taskDefinition="web", desiredCount=0)
    none = ecs.describe_task_sets(cluster="lab", service="web", taskSets=["ecs-svc/1"])
    assert (none["taskSets"], none["failures"][0]["reason"]) == ([], "MISSING")
    name, says = refused(ecs.create_task_set, cluster="lab", service="web", taskDefinition="web")
    assert (name, "EXTERNAL" in says) == ("InvalidParameterException", True), says
    assert refused(ecs.delete_cluster, cluster="lab") == (
        "ClusterContainsServicesException",
        "The Cluster cannot be deleted while Services are active.",
    )


def task_sets_are_deployed_by_somebody_else():
    cluster()
    instance()
    define()
    here = {"cluster": "lab", "service": "shop"}
    made = ecs.create_service(
        cluster="lab", serviceName="shop", desiredCount=3, deploymentController={"type": "EXTERNAL"}
    )["service"]
    assert (made["deploymentController"]["type"], made["deployments"]) == ("EXTERNAL", [])
    half = {"value": 50.0, "unit": "PERCENT"}
    tags = [{"key": "team", "value": "a"}]
    blue = ecs.create_task_set(taskDefinition="web", externalId="r1", tags=tags, **here)["taskSet"]
    green = ecs.create_task_set(taskDefinition="web", scale=half, **here)["taskSet"]
    assert (blue["status"], blue["computedDesiredCount"]) == ("ACTIVE", 3), blue
    assert (green["scale"], green["computedDesiredCount"]) == (half, 2), green
    told = ecs.update_service_primary_task_set(primaryTaskSet=blue["taskSetArn"], **here)
    assert told["taskSet"]["status"] == "PRIMARY", told
    told = ecs.update_task_set(taskSet=green["id"], scale={"value": 100, "unit": "PERCENT"}, **here)
    assert told["taskSet"]["computedDesiredCount"] == 3, told
    shown = ecs.describe_task_sets(taskSets=[blue["id"]], include=["TAGS"], **here)["taskSets"]
    assert [(row["externalId"], row["tags"]) for row in shown] == [("r1", tags)], shown
    service = ecs.describe_services(cluster="lab", services=["shop"])["services"][0]
    assert [row["id"] for row in service["taskSets"]] == [green["id"], blue["id"]], service
    ecs.tag_resource(resourceArn=blue["taskSetArn"], tags=[{"key": "more", "value": "b"}])
    listed = ecs.list_tags_for_resource(resourceArn=blue["taskSetArn"])["tags"]
    assert {row["key"] for row in listed} == {"team", "more"}, listed
    assert refused(ecs.delete_task_set, taskSet=green["id"], **here)[0] == "InvalidParameterException"
    gone = ecs.delete_task_set(taskSet=green["id"], force=True, **here)["taskSet"]
    assert gone["status"] == "DRAINING", gone
    missing = refused(ecs.update_task_set, taskSet="ecs-svc/1", scale=half, **here)
    assert missing[0] == "TaskSetNotFoundException", missing
    assert refused(ecs.update_service, taskDefinition="web", **here)[0] == "InvalidParameterException"
    ecs.delete_service(force=True, **here)


def each_class_of_exception_is_met():
    """Those of ECS's model that the checks above do not name, as boto3 raises them."""
    cluster()
    home = instance()["containerInstanceArn"]
    web = define()["taskDefinitionArn"]
    here = {"cluster": "lab"}
    service = {"serviceName": "old", "taskDefinition": "web", "desiredCount": 1, **here}
    arn = ecs.create_service(**service)["service"]["serviceArn"]
    deployments = lambda: ecs.list_service_deployments(
        service=arn, status=["SUCCESSFUL"], **here
    )["serviceDeployments"]
    over = eventually("the deployment ends", deployments)[0]["serviceDeploymentArn"]
    stop = {"serviceDeploymentArn": over, "stopType": "ROLLBACK"}
    assert refused(ecs.stop_service_deployment, **stop)[0] == "ConflictException"
    never = {**stop, "serviceDeploymentArn": over[:over.rindex("/")] + "/1"}
    assert refused(ecs.stop_service_deployment, **never)[0] == "ServiceDeploymentNotFoundException"
    ecs.delete_service(service="old", force=True, **here)
    ecs.get_waiter("services_inactive").wait(services=["old"], WaiterConfig=SOON, **here)
    attribute = {"name": "rack", "value": "1", "targetType": "container-instance"}
    of = lambda target: [{**attribute, "targetId": target}]
    many = [{**attribute, "name": f"a{number}", "targetId": home} for number in range(11)]
    nobody = f"{ACCOUNT}:task/lab/{NOBODY}"
    tags = [{"key": f"k{number}", "value": ""} for number in range(50)]
    ecs.tag_resource(resourceArn=web, tags=tags)
    for name, call, words in [
        ("ServiceNotActiveException", ecs.update_service, {"service": "old", **here}),
        ("TargetNotFoundException", ecs.put_attributes, {"attributes": of(NOBODY), **here}),
        ("ResourceNotFoundException", ecs.tag_resource,
         {"resourceArn": nobody, "tags": [{"key": "a", "value": "b"}]}),
        ("ResourceNotFoundException", ecs.untag_resource,
         {"resourceArn": nobody, "tagKeys": ["a"]}),
        ("NoUpdateAvailableException", ecs.update_container_agent,
         {"containerInstance": home, **here}),
        ("UnsupportedFeatureException", ecs.discover_poll_endpoint, here),
    ]:
        assert refused(call, **words)[0] == name, (name, words)
    more = [{"key": "one more", "value": ""}]
    assert refused(ecs.tag_resource, resourceArn=web, tags=more)[0] == "LimitExceededException"
    ecs.put_attributes(attributes=many[:10], **here)
    beyond = refused(ecs.put_attributes, attributes=many[10:], **here)
    assert beyond[0] == "AttributeLimitExceededException", beyond


def endings_are_remembered_one_by_one():
    """What was run is described for an hour, however often its family runs."""
    cluster()
    instance()
    define()
    here = {"cluster": "lab"}
    arns = []
    for _ in range(12):
        tasks = ecs.run_task(taskDefinition="web", count=10, **here)["tasks"]
        arns += [task["taskArn"] for task in tasks]
        for task in tasks:
            ecs.stop_task(task=task["taskArn"], **here)
    ecs.get_waiter("tasks_stopped").wait(tasks=arns[:100], WaiterConfig=SOON, **here)
    assert ecs.describe_tasks(tasks=arns[:100], **here)["failures"] == []
    # What fits nowhere is a failure, and no task to anybody.
    huge = define(family="huge", memory=100_000)["taskDefinitionArn"]
    answer = ecs.run_task(taskDefinition=huge, **here)
    assert (answer["tasks"], answer["failures"][0]["reason"]) == ([], "RESOURCE:MEMORY"), answer
    stopped = every(ecs, "list_tasks", "taskArns", desiredStatus="STOPPED", **here)
    assert sorted(stopped) == sorted(arns)


def only_a_post_empties_it():
    """A browser that is pointed at the reset address changes nothing."""
    cluster()
    try:
        urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL_ECS"] + "/_muster/reset", timeout=30)
        raise AssertionError("a GET was answered")
    except urllib.error.HTTPError as error:
        assert error.code == 400, error
    assert len(ecs.list_clusters()["clusterArns"]) == 1
    reset()
    assert ecs.list_clusters()["clusterArns"] == []


run(
    nothing_exists_until_it_is_made,
    clusters_are_made_described_and_deleted,
    definitions_have_revisions_that_begin_again_after_a_reset,
    an_instance_is_active_and_connected_when_it_is_registered,
    tasks_run_before_run_task_answers,
    tasks_run_before_start_task_answers,
    what_does_not_fit_is_a_failure,
    lists_of_tasks_have_pages_and_filters,
    a_token_makes_a_run_happen_once,
    waiters_end,
    services_scale_and_are_deleted,
    services_have_pages,
    tags_are_set_shown_and_removed,
    tasks_get_tags_from_where_they_come_and_from_ecs,
    a_platform_chooses_the_instances_that_are_it,
    instances_are_drained_and_deregistered,
    refusals_are_ecs_own,
    task_sets_are_deployed_by_somebody_else,
    each_class_of_exception_is_met,
    endings_are_remembered_one_by_one,
    only_a_post_empties_it,
)
