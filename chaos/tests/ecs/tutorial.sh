#!/usr/bin/env bash
# A session of the `aws` command line as in Amazon's tutorials for ECS on container instances, word
# for word; only the image is of this network. Between the commands: what must be true by then.
#
#   IMAGE=registry/busybox:1 HOME=an-empty-directory tutorial.sh      the cluster has instances
set -euo pipefail

fail() { echo "tutorial: $*" >&2; exit 1; }

# is WANTED QUERY COMMAND...: what the command answers under a query.
is() {
    local wanted=$1 query=$2 found
    shift 2
    found=$("$@" --query "$query" --output text)
    [ "$found" = "$wanted" ] || fail "$*: $query: $found, not $wanted"
}

service() { is "$1" "$2" aws ecs describe-services --cluster default --services sleeper; }

# definition SECONDS: the tutorial's file.
definition() {
    mkdir -p "$HOME/tasks"
    cat >"$HOME/tasks/sleep360.json" <<JSON
{
  "containerDefinitions": [
    {
      "name": "sleep",
      "image": "$IMAGE",
      "cpu": 10,
      "command": ["sleep", "$1"],
      "memory": 10,
      "essential": true,
      "stopTimeout": 2
    }
  ],
  "family": "sleep360"
}
JSON
}

set -x
aws ecs create-cluster
instance=$(aws ecs list-container-instances --cluster default \
    --query 'containerInstanceArns[0]' --output text)
aws ecs describe-container-instances --cluster default --container-instances "$instance"

definition 360
aws ecs register-task-definition --cli-input-json "file://$HOME/tasks/sleep360.json"
aws ecs list-task-definitions
aws ecs run-task --cluster default --task-definition sleep360:1 --count 1
task=$(aws ecs list-tasks --cluster default --query 'taskArns[0]' --output text)
aws ecs wait tasks-running --cluster default --tasks "$task"
aws ecs describe-tasks --cluster default --tasks "$task"
is RUNNING 'tasks[0].lastStatus' aws ecs describe-tasks --cluster default --tasks "$task"
aws ecs stop-task --cluster default --task "$task"
aws ecs wait tasks-stopped --cluster default --tasks "$task"
is UserInitiated 'tasks[0].stopCode' aws ecs describe-tasks --cluster default --tasks "$task"

aws ecs create-service --cluster default --service-name sleeper --task-definition sleep360 \
    --desired-count 2
aws ecs wait services-stable --cluster default --services sleeper
service 2 'services[0].runningCount'
aws ecs update-service --cluster default --service sleeper --desired-count 3
aws ecs wait services-stable --cluster default --services sleeper
service 3 'services[0].runningCount'

definition 720
aws ecs register-task-definition --cli-input-json "file://$HOME/tasks/sleep360.json"
for revision in 2 1; do # on to the new one, and back
    aws ecs update-service --cluster default --service sleeper \
        --task-definition "sleep360:$revision"
    aws ecs wait services-stable --cluster default --services sleeper
    service True "ends_with(services[0].deployments[0].taskDefinition, ':$revision')"
    service 1 'length(services[0].deployments)'
done
aws ecs describe-services --cluster default --services sleeper
aws ecs list-services --cluster default
aws ecs delete-service --cluster default --service sleeper --force
aws ecs wait services-inactive --cluster default --services sleeper
service INACTIVE 'services[0].status'
