"""A scheduler of one's own: it says where, the cluster holds it to the rules.

    pip install -r requirements.txt
    python -m grpc_tools.protoc -I proto/api --python_out=. --grpc_python_out=. ecs.proto options.proto
    python scheduler.py --identity ~/.muster --managers 10.0.1.10:7400,10.0.2.10:7400 \
        --name nightly --task-definition train --jobs night-1,night-2,night-3

Runs each job of its own queue as one task, on the fullest instance that has room for it.

watch   Every row of tasks and instances, then every change, without a gap. When the stream ends,
        another manager is asked and all of it is read anew: the ordinary path, from nothing.
choose  By any rule at all; here: the least cpu left that is enough.
start   StartTask names the instance. Its preconditions are the cluster's rules, judged in the one
        entry of the log that starts the task: agent connected, ACTIVE, cpu, memory, GPUs and ports
        free, constraints met. What the scheduler saw may be over by then, or nothing it looks at:
        `failures` says why (RESOURCE:GPU, AGENT, ATTRIBUTE, ...) and nothing was started. Another
        instance is chosen, and that one left out until something changes there.
repeat  Call number N about a job always has the same client token, also in the scheduler's next
        life: at most one of them takes effect, and a job never has two tasks. Which jobs have one
        stands in the cluster (`startedBy`, `group`) for as long as it shows stopped tasks.
"""

import argparse
import collections
import itertools
import time
import uuid

import grpc

import ecs_pb2
import ecs_pb2_grpc
from create_service import PASSING, Cluster

KINDS = ["task", "container-instance"]
# Client tokens are UUIDs made of a text below this one.
NAMESPACE = uuid.UUID("6f1c7bd2-3f43-4f0e-9d0a-9c2f3e1b7a55")


class Scheduler:
    def __init__(self, cluster, name, definition, cpu, jobs):
        self.cluster, self.name, self.definition = cluster, name, definition
        self.cpu, self.jobs = cpu, jobs
        self.calls = collections.Counter()
        self.tasks, self.instances, self.refused = {}, {}, set()

    def run(self):
        """Until every job has its task."""
        channels = itertools.cycle(self.cluster.channels)
        while self.waiting():
            try:
                self.follow(next(channels))
            except grpc.RpcError as error:
                if error.code() not in PASSING | {grpc.StatusCode.ALREADY_EXISTS}:
                    raise
                print(f"looks anew: {error.code().name}", flush=True)
                time.sleep(0.2)

    def follow(self, channel):
        """The rows that are there, then each change; after each of them a decision."""
        self.tasks, self.instances, self.refused = {}, {}, set()
        synced = False
        request = ecs_pb2.WatchRequest(cluster="default", kinds=KINDS)
        for answer in ecs_pb2_grpc.LiveStub(channel).Watch(request):
            for change in answer.changes:
                self.note(change)
            synced = synced or answer.synced
            if synced and not self.place():
                return

    def note(self, change):
        """One row as it is now; a task that ended makes room where it was."""
        kind = change.WhichOneof("row")
        if kind == "task":
            self.tasks[change.task.task_arn] = change.task
            if change.task.last_status == "STOPPED":
                self.refused.discard(change.task.container_instance_arn)
        elif kind == "container_instance":
            row = change.container_instance
            self.instances[row.container_instance_arn] = row
            self.refused.discard(row.container_instance_arn)
        elif kind == "removed_arn":
            self.tasks.pop(change.removed_arn, None)
            self.instances.pop(change.removed_arn, None)

    def waiting(self):
        taken = {task.group for task in self.tasks.values() if task.started_by == self.name}
        return [job for job in self.jobs if job not in taken]

    def place(self):
        """Gives waiting jobs an instance, first come, first served; whether some still wait."""
        for job in self.waiting():
            while instance := self.choose():
                if self.start(job, instance):
                    break
                self.refused.add(instance)
            else:
                return True
        return False

    def choose(self):
        """The fullest one that has room; the cluster knows more about it than this."""
        left = collections.Counter()
        for arn, row in self.instances.items():
            if row.status == "ACTIVE" and row.agent_connected and arn not in self.refused:
                total = [r.integer_value for r in row.registered_resources if r.name == "CPU"]
                left[arn] = sum(total)
        for task in self.tasks.values():
            if task.container_instance_arn in left and task.last_status != "STOPPED":
                left[task.container_instance_arn] -= int(task.cpu or 0)
        enough = [(cpu, arn) for arn, cpu in left.items() if cpu >= self.cpu]
        return min(enough)[1] if enough else None

    def start(self, job, instance):
        self.calls[job] += 1
        token = uuid.uuid5(NAMESPACE, f"{self.name} {job} {self.calls[job]}")
        request = ecs_pb2.StartTaskRequest(
            task_definition=self.definition,
            container_instances=[instance],
            group=job,
            started_by=self.name,
            client_token=str(token),
        )
        # ALREADY_EXISTS: an earlier life made call number N about another instance. It ends this
        # watch like any other error; the next one shows whether that call came to a task.
        answer = self.cluster.call("StartTask", request)
        for failure in answer.failures:
            print(f"{job} refused {instance} {failure.reason}", flush=True)
        for task in answer.tasks:
            self.tasks[task.task_arn] = task
            print(f"{job} started {instance} {task.task_arn}", flush=True)
        return bool(answer.tasks)


def main():
    parser = argparse.ArgumentParser(description="Run each job as one task, where this one says.")
    parser.add_argument("--identity", required=True, help="directory of ca.pem, cert.pem, key.pem")
    parser.add_argument("--managers", required=True, help="host:port,host:port,...")
    parser.add_argument("--name", default="scheduler", help="who starts the tasks (startedBy)")
    parser.add_argument("--task-definition", required=True)
    parser.add_argument("--cpu", type=int, default=0, help="units a task takes")
    parser.add_argument("--jobs", required=True, help="names, in the order of the queue")
    words = parser.parse_args()
    cluster = Cluster(words.managers.split(","), words.identity)
    jobs = words.jobs.split(",")
    Scheduler(cluster, words.name, words.task_definition, words.cpu, jobs).run()


if __name__ == "__main__":
    main()
