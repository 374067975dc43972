"""A run as KFP's API reports it: the nodes that Argo creates for a compiled pipeline, with ids that hash their names.

The format is that of a recorded run of KFP 2.16 and of an observed run of 2.17.0: an entry of `task_details` has the
last part of a name, a state, times, and the ids of its children as `pod_name`; no id, no parent, no pod of the node.
The shipped configuration of 2.17 gives every template a retry strategy, so each node has an additional child `(0)`.
"""

import datetime
import itertools

START = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)
EXIT = "ALL_UPSTREAM_TASKS_COMPLETED"


def fnv(text):
    """FNV-1a, 32 bits: https://datatracker.ietf.org/doc/html/draft-eastlake-fnv."""
    value = 2166136261
    for byte in text.encode():
        value = ((value ^ byte) * 16777619) % 2**32
    return value


class Recording:
    """The nodes of one run of a compiled pipeline (its first document).

    iterations  how often the loop of this name runs;  fail  {node name part: attempts}: tasks whose attempts all failed
    stop        drivers that failed;  cached  tasks taken from the cache;  shipped  every template has a retry strategy
    """

    def __init__(self, spec, iterations, fail=(), stop=(), cached=(), waiting=(), shipped=True, workflow="mcti-x7k2p"):
        self.spec, self.iterations, self.shipped, self.workflow = spec, iterations, shipped, workflow
        self.fail, self.stop, self.cached, self.waiting = dict(fail), stop, cached, waiting
        self.clock = itertools.count()
        self.details, self.logs = [], {}
        self.run_state = "FAILED" if self.fail or stop else "RUNNING" if waiting else "SUCCEEDED"

    def build(self, run="run-0"):
        """The run as in the response to `GET runs/ID`."""
        root = f"{self.workflow}.root"
        self.node(f"{self.workflow}", "SUCCEEDED", [f"{root}-driver"])
        self.pod(f"{root}-driver", "SUCCEEDED", [root])
        inner = self.attempt(root)
        self.dag(self.spec["root"]["dag"]["tasks"], inner)
        self.node(root, "SUCCEEDED", [inner] if inner != root else self.first(root))
        return {
            "run_id": run, "display_name": "mcti-training 0123", "state": self.run_state,
            "state_history": [{"state": "PENDING"}, {"state": "RUNNING"}],
            "pipeline_spec": {"pipeline_spec": self.spec, "platform_spec": {}},
            "run_details": {"task_details": self.details},
        }  # fmt: skip

    def first(self, path):
        return [
            f"{path}.{key}-driver"
            for key, task in self.spec["root"]["dag"]["tasks"].items()
            if not task.get("dependentTasks")
        ]

    def attempt(self, name):
        return f"{name}(0)" if self.shipped else name

    def identifier(self, name):
        return f"{self.workflow}-{fnv(name)}"

    def node(self, name, state, children, seconds=60, at=None):
        start = START + datetime.timedelta(minutes=next(self.clock) if at is None else at)
        entry = {
            "run_id": "run-0", "task_id": f"task-{len(self.details)}", "display_name": name.rpartition(".")[2] or name,
            "create_time": START.isoformat(), "start_time": start.isoformat(),
            "end_time": (start + datetime.timedelta(seconds=seconds)).isoformat(),
            "child_tasks": [{"pod_name": self.identifier(child)} for child in children],
        }  # fmt: skip
        self.details.append(entry | ({"state": state} if state else {}))

    def pod(self, name, state, children, attempts=None):
        """A template with one pod: with a retry strategy a node for the template and one per attempt."""
        if not self.shipped and attempts is None:
            return self.node(name, state, children)
        attempt_names = [f"{name}({index})" for index in range(attempts or 1)]
        self.node(name, state, attempt_names)
        for attempt in attempt_names:
            is_last = attempt == attempt_names[-1]
            self.node(attempt, state if is_last else "FAILED", children if is_last else [])
        return None

    def dag(self, tasks, path):
        for key, task in tasks.items():
            after = [f"{path}.{other}-driver" for other in tasks if key in tasks[other].get("dependentTasks", ())]
            component = self.spec["components"][task["componentRef"]["name"]]
            name = f"{path}.{key}"
            if task.get("triggerPolicy", {}).get("strategy") == EXIT:
                hook = f"{path}.{task['dependentTasks'][0]}.onExit"
                inner = self.attempt(hook)
                self.node(hook, "SUCCEEDED", [inner] if inner != hook else [f"{hook}.{key}-driver"])
                if inner != hook:
                    self.node(inner, "SUCCEEDED", [f"{inner}.{key}-driver"])
                name, after = f"{inner}.{key}", []
            if key in self.waiting:
                self.pod(f"{name}-driver", "RUNNING", [name])
            elif key in self.stop:
                self.pod(f"{name}-driver", "FAILED", [name])
                self.node(name, "", after, seconds=0)
            elif "dag" not in component:
                self.container(key, name, task, after)
            elif "parameterIterator" in task:
                self.loop(name, task, component["dag"]["tasks"])
            else:
                inner = self.attempt(name)
                self.pod(f"{name}-driver", "SUCCEEDED", [name])
                inside = component["dag"]["tasks"]
                firsts = [f"{inner}.{other}-driver" for other in inside if not inside[other].get("dependentTasks")]
                self.node(name, "SUCCEEDED", [inner] if inner != name else firsts)
                if inner != name:
                    self.node(inner, "SUCCEEDED", firsts)
                self.dag(inside, inner)

    def loop(self, name, task, inside):
        inner = self.attempt(name)
        self.node(name, "SUCCEEDED", [inner] if inner != name else [f"{name}.iteration-driver"])
        if inner != name:
            self.node(inner, "SUCCEEDED", [f"{inner}.iteration-driver"])
        self.pod(f"{inner}.iteration-driver", "SUCCEEDED", [f"{inner}.iteration-iterations"])
        count = self.iterations[task["taskInfo"]["name"]]
        iterations = [f"{inner}.iteration-iterations({index}:{index})" for index in range(count)]
        self.node(f"{inner}.iteration-iterations", "SUCCEEDED", iterations)
        for iteration in iterations:
            attempt = self.attempt(iteration)
            item = f"{attempt}.iteration-item"
            self.node(iteration, "SUCCEEDED", [attempt] if attempt != iteration else [f"{item}-driver"])
            if attempt != iteration:
                self.node(attempt, "SUCCEEDED", [f"{item}-driver"])
            self.pod(f"{item}-driver", "SUCCEEDED", [item])
            item_attempt = self.attempt(item)
            firsts = [f"{item_attempt}.{other}-driver" for other in inside if not inside[other].get("dependentTasks")]
            self.node(item, "SUCCEEDED", [item_attempt] if item_attempt != item else firsts)
            if item_attempt != item:
                self.node(item_attempt, "SUCCEEDED", firsts)
            self.dag(inside, item_attempt)

    def container(self, key, name, task, after):
        number = name.split("iteration-iterations(")[-1].partition(":")[0] if "iteration-iterations(" in name else ""
        title = f"{key}:{number}" if number else key
        attempts = self.fail.get(title, 1)
        state = "FAILED" if title in self.fail else "SUCCEEDED"
        inner = self.attempt(name)
        executor = f"{inner}.executor"
        self.pod(f"{name}-driver", "SUCCEEDED", [name])
        self.node(name, state, [inner] if inner != name else [executor], seconds=0 if key in self.cached else 125)
        if inner != name:
            self.node(inner, state, [executor])
        if key in self.cached:
            return self.node(executor, "", after, seconds=0)
        self.pod(executor, state, after, attempts if "retryPolicy" in task or self.shipped else None)
        prefix = "retry-system-container-impl" if "retryPolicy" in task else "system-container-impl"
        for index in range(attempts):
            self.logs[f"{self.workflow}-{prefix}-{fnv(f'{executor}({index})')}"] = f"attempt {index} of {title}\n"
        return None
