#!/usr/bin/env bash
# Amazon's tutorials for ECS on container instances with the `aws` command line, word for word:
# images, names and numbers are Amazon's. Where a tutorial says to paste an id from an answer, it is
# taken from that answer; what it does with EC2 (launching and terminating the instance) is done to a
# machine by whoever runs this, between the parts. After a command: what must be true by then.
#
#   amazon.sh sleep360                a task in the cluster default, which has instances
#   amazon.sh create                  the cluster MyCluster, and its machine is to join now
#   amazon.sh service ADDRESS PAGE    a web server as a service in it; ADDRESS is its machine's, PAGE what
#                                     its image serves
#   amazon.sh clean                   the machine is gone again: what is left of the tutorial
#   amazon.sh fargate                 the tutorial for Fargate, which is told by name what is not built
set -euo pipefail

fail() { echo "amazon.sh: $*" >&2; exit 1; }

# is WANTED QUERY COMMAND...: what the command answers under a query.
is() {
    local wanted=$1 query=$2 found
    shift 2
    found=$("$@" --query "$query" --output text)
    [ "$found" = "$wanted" ] || fail "$*: $query: $found, not $wanted"
}

# the_one QUERY COMMAND...: the id at the end of the one ARN that a list has.
the_one() {
    local query=$1 found
    shift
    found=$("$@" --query "$query[]" --output text)
    case $found in '' | *[[:space:]]*) fail "$*: one was expected: $found" ;; esac
    echo "${found##*/}"
}

# refused WORDS COMMAND...: the command fails, and says so.
refused() {
    local wanted=$1 said
    shift
    if said=$("$@" 2>&1); then fail "$*: was not refused: $said"; fi
    case $said in *UnsupportedFeatureException*"$wanted"*) ;; *) fail "$*: $said, not $wanted" ;; esac
}

sleep360() {
    mkdir -p "$HOME/tasks"
    cat >"$HOME/tasks/sleep360.json" <<'JSON'
{
  "containerDefinitions": [
    {
      "name": "sleep",
      "image": "busybox",
      "cpu": 10,
      "command": [
        "sleep",
        "360"
      ],
      "memory": 10,
      "essential": true
    }
  ],
  "family": "sleep360"
}
JSON
    aws ecs list-container-instances --cluster default
    local instance task
    instance=$(aws ecs list-container-instances --cluster default \
        --query 'containerInstanceArns[0]' --output text)
    aws ecs describe-container-instances --cluster default --container-instances "${instance##*/}"
    aws ecs register-task-definition --cli-input-json "file://$HOME/tasks/sleep360.json"
    aws ecs register-task-definition --family sleep360 --container-definitions "[{\"name\":\"sleep\",\"image\":\"busybox\",\"cpu\":10,\"command\":[\"sleep\",\"360\"],\"memory\":10,\"essential\":true}]"
    aws ecs list-task-definitions
    aws ecs run-task --cluster default --task-definition sleep360:1 --count 1
    aws ecs list-tasks --cluster default
    task=$(the_one taskArns aws ecs list-tasks --cluster default --family sleep360)
    aws ecs wait tasks-running --cluster default --tasks "$task"
    # `--task` is the tutorial's: argparse takes what only one option begins with.
    aws ecs describe-tasks --cluster default --task "$task"
    is RUNNING 'tasks[0].containers[0].lastStatus' \
        aws ecs describe-tasks --cluster default --task "$task"
    is busybox 'tasks[0].containers[0].image' aws ecs describe-tasks --cluster default --task "$task"
    # Beyond the tutorial, which leaves its task to end by itself, and its definitions for ever.
    aws ecs stop-task --cluster default --task "$task"
    aws ecs deregister-task-definition --task-definition sleep360:1
    aws ecs deregister-task-definition --task-definition sleep360:2
    is 0 'length(taskDefinitionArns)' aws ecs list-task-definitions --family-prefix sleep360
}

create() {
    aws sts get-caller-identity
    aws ecs create-cluster --cluster-name MyCluster
    aws ecs list-clusters
}

service() {
    local address=$1 page=$2 instance task
    aws ecs list-container-instances --cluster MyCluster
    instance=$(the_one containerInstanceArns aws ecs list-container-instances --cluster MyCluster)
    aws ecs describe-container-instances --cluster MyCluster --container-instances "$instance"
    cat > nginx-task.json << 'JSON'
{
    "family": "nginx-task",
    "containerDefinitions": [
        {
            "name": "nginx",
            "image": "public.ecr.aws/docker/library/nginx:latest",
            "cpu": 256,
            "memory": 512,
            "essential": true,
            "portMappings": [
                {
                    "containerPort": 80,
                    "hostPort": 80,
                    "protocol": "tcp"
                }
            ]
        }
    ],
    "requiresCompatibilities": ["EC2"],
    "networkMode": "bridge"
}
JSON
    aws ecs register-task-definition --cli-input-json file://nginx-task.json
    aws ecs list-task-definitions
    aws ecs create-service --cluster MyCluster --service-name nginx-service --task-definition nginx-task:1 --desired-count 1
    aws ecs list-services --cluster MyCluster
    aws ecs wait services-stable --cluster MyCluster --services nginx-service
    aws ecs describe-services --cluster MyCluster --services nginx-service
    is 1 'services[0].runningCount' \
        aws ecs describe-services --cluster MyCluster --services nginx-service
    aws ecs list-tasks --cluster MyCluster --service-name nginx-service
    task=$(the_one taskArns aws ecs list-tasks --cluster MyCluster --service-name nginx-service)
    aws ecs describe-tasks --cluster MyCluster --tasks "$task"
    is 80 'tasks[0].containers[0].networkBindings[0].hostPort' \
        aws ecs describe-tasks --cluster MyCluster --tasks "$task"
    # The tutorial's curl, which a machine may lack.
    busybox wget -q -O - "http://$address" | grep -F "$page" || fail "not the page: $page"
    aws ecs update-service --cluster MyCluster --service nginx-service --desired-count 0
    aws ecs wait services-stable --cluster MyCluster --services nginx-service
    aws ecs delete-service --cluster MyCluster --service nginx-service
    is INACTIVE 'services[0].status' \
        aws ecs describe-services --cluster MyCluster --services nginx-service
}

clean() {
    aws ecs delete-cluster --cluster MyCluster
    is INACTIVE 'clusters[0].status' aws ecs describe-clusters --clusters MyCluster
}

# Amazon's third tutorial, whose tasks need Fargate and a network interface each.
fargate() {
    aws ecs create-cluster --cluster-name fargate-cluster
    mkdir -p "$HOME/tasks"
    cat >"$HOME/tasks/fargate-task.json" <<'JSON'
{
    "family": "sample-fargate",
    "networkMode": "awsvpc",
    "containerDefinitions": [
        {
            "name": "fargate-app",
            "image": "public.ecr.aws/docker/library/httpd:latest",
            "portMappings": [
                {
                    "containerPort": 80,
                    "hostPort": 80,
                    "protocol": "tcp"
                }
            ],
            "essential": true
        }
    ],
    "requiresCompatibilities": [
        "FARGATE"
    ],
    "cpu": "256",
    "memory": "512"
}
JSON
    refused "a network interface per task is not built" \
        aws ecs register-task-definition --cli-input-json "file://$HOME/tasks/fargate-task.json"
    refused "awsvpc networking is not built" \
        aws ecs create-service --cluster fargate-cluster --service-name fargate-service --task-definition sample-fargate:1 --desired-count 1 --launch-type "FARGATE" --network-configuration "awsvpcConfiguration={subnets=[subnet-abcd1234],securityGroups=[sg-abcd1234]}"
    aws ecs list-services --cluster fargate-cluster
    aws ecs delete-cluster --cluster fargate-cluster
}

part=${1:?what to do: sleep360, create, service, clean or fargate}
shift
cd "$HOME"
set -x
"$part" "$@"
