//go:build unix

package anchor

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const processLease = time.Second

// newProcessRig is a rig for worker processes, and a client that only enqueues for them.
func newProcessRig(t *testing.T) (*pgRig, *Task[processParams], *Client) {
	t.Helper()
	rig := newPG(t)
	rig.exec(createProcessTables)
	task := defineProcessTask(rig.pool)
	return rig, task, rig.newClient(task)
}

func TestTwoProcessesRunEveryTaskOnce(t *testing.T) {
	t.Parallel()
	rig, task, client := newProcessRig(t)
	const count = 10_000
	params := make([]*processParams, count)
	for i := range params {
		params[i] = &processParams{}
	}
	if _, err := task.RunMany(t.Context(), client, params); err != nil {
		t.Fatal(err)
	}
	first := rig.startProcess(15*time.Second, 10)
	second := rig.startProcess(15*time.Second, 10)
	eventually(t, "all completed", func() bool {
		return readOne[int](rig, "select count(*) from anchor_tasks where status = 'completed'") == count
	})
	if n := readOne[int](rig, "select count(*) from effects"); n != count {
		t.Errorf("%d effects, want %d", n, count)
	}
	if n := readOne[int](rig, "select count(distinct task_id) from effects"); n != count {
		t.Errorf("effects of %d tasks, want %d", n, count)
	}
	if n := readOne[int](rig, "select count(distinct worker_id) from anchor_tasks"); n != 2 {
		t.Errorf("%d workers had a part in it, want 2", n)
	}
	if n := readOne[int](rig, "select sum(attempts) from anchor_tasks"); n != count {
		t.Errorf("%d attempts, want %d", n, count)
	}
	for _, p := range []*workerProcess{first, second} {
		p.signal(syscall.SIGTERM)
		p.exited()
	}
	if n := readOne[int](rig, "select count(*) from anchor_workers"); n != 0 {
		t.Errorf("%d workers are left on record, want none", n)
	}
}

func TestTasksOfAKilledWorkerRunAgain(t *testing.T) {
	t.Parallel()
	rig, task, client := newProcessRig(t)
	victim := rig.startProcess(processLease, 5)
	var ids []int64
	for range 5 {
		ids = append(ids, enqueue(rig, client, task, &processParams{"deaf"}))
	}
	eventually(t, "5 starts", func() bool { return readOne[int](rig, "select count(*) from starts") == 5 })
	survivor := rig.startProcess(processLease, 5)
	victim.signal(syscall.SIGKILL)
	victim.exited()
	died := time.Now()
	rig.exec("insert into gates values (1)")
	for _, id := range ids {
		info := rig.ended(client, id)
		if info.Status != StatusCompleted || info.Attempts != 2 || len(info.Errors) != 1 || !strings.Contains(info.Errors[0].Message, "stopped responding") {
			t.Errorf("task %d: status %s after %d attempts, errors %v", id, info.Status, info.Attempts, info.Errors)
		}
		if after := info.StartedAt.Sub(died); after > processLease+5*time.Second {
			t.Errorf("task %d was started again after %v", id, after)
		}
		if diff := cmp.Diff([]string{"handler"}, rig.effectsOf(id)); diff != "" {
			t.Errorf("effects (-want +got):\n%s", diff)
		}
	}
	if pids := readAll[int](rig, "select distinct pid from starts"); !slices.Contains(pids, survivor.pid) {
		t.Errorf("started by %v, want the survivor %d among them", pids, survivor.pid)
	}
}

func TestPoisonTaskFailsAfterItsAttemptsAndItsNeighboursGoOn(t *testing.T) {
	t.Parallel()
	rig, task, client := newProcessRig(t)
	var neighbours []int64
	for range 50 {
		neighbours = append(neighbours, enqueue(rig, client, task, &processParams{}))
	}
	poison := enqueue(rig, client, task, &processParams{"poison"})
	for range 50 {
		neighbours = append(neighbours, enqueue(rig, client, task, &processParams{}))
	}
	// One slot each: what runs beside a poison task in the same process is rightly charged.
	var dead []int
	for range 3 {
		victim := rig.startProcess(processLease, 1)
		victim.exited()
		dead = append(dead, victim.pid)
	}
	survivor := rig.startProcess(processLease, 1)
	info := rig.ended(client, poison)
	if info.Status != StatusFailed || info.Attempts != 3 || len(info.Errors) != 3 {
		t.Errorf("status %s after %d attempts, errors %v, want failed after 3", info.Status, info.Attempts, info.Errors)
	}
	if pids := readAll[int](rig, "select pid from starts where task_id = $1", poison); !slices.Equal(pids, dead) {
		t.Errorf("started by %v, want once by each of %v", pids, dead)
	}
	effects := rig.effectsOf(poison)
	if len(effects) != 1 || !strings.HasPrefix(effects[0], "hook in ") || slices.Contains(dead, survivor.pid) {
		t.Errorf("effects %q, want the hook's", effects)
	}
	charged := 0
	for _, id := range neighbours {
		info := rig.ended(client, id)
		if info.Status != StatusCompleted {
			t.Errorf("neighbour %d: status %s after %d attempts, errors %v", id, info.Status, info.Attempts, info.Errors)
		}
		charged = max(charged, info.Attempts)
	}
	if charged > 2 {
		t.Errorf("a neighbour was charged %d attempts, want no more than one that was lost in the buffer", charged-1)
	}
}

func TestStoppedWorkerLosesItsTaskAndAppliesNothing(t *testing.T) {
	t.Parallel()
	rig, task, client := newProcessRig(t)
	zombie := rig.startProcess(processLease, 3)
	rig.exec("create table locked (id int); insert into locked values (1)")
	id := enqueue(rig, client, task, &processParams{"deaf"})
	eventually(t, "an uncommitted effect", func() bool {
		return readOne[int](rig, "select count(*) from starts") == 1 &&
			readOne[int](rig, "select count(*) from pg_locks where relation = 'effects'::regclass and granted and mode = 'RowExclusiveLock'") == 1
	})
	backend := readOne[int](rig, "select pid from pg_locks where relation = 'effects'::regclass and granted and mode = 'RowExclusiveLock'")
	zombie.signal(syscall.SIGSTOP)
	stopped := time.Now()
	survivor := rig.startProcess(processLease, 3)
	eventually(t, "end of the zombie's backend", func() bool {
		return readOne[int](rig, "select count(*) from pg_stat_activity where pid = $1", backend) == 0
	})
	eventually(t, "three leases", func() bool { return time.Since(stopped) > 3*processLease })
	eventually(t, "a second start", func() bool { return readOne[int](rig, "select count(*) from starts") == 2 })
	rig.exec("insert into gates values (1)")
	info := rig.ended(client, id)
	if info.Status != StatusCompleted || info.Attempts != 2 {
		t.Errorf("status %s after %d attempts, errors %v", info.Status, info.Attempts, info.Errors)
	}
	zombie.signal(syscall.SIGCONT)
	// The zombie works on, as a new worker, and its handler's end changes nothing.
	eventually(t, "a lost claim in the zombie's log", func() bool { return strings.Contains(rig.logs.String(), "lost its claim") })
	survivor.signal(syscall.SIGTERM)
	survivor.exited()
	next := rig.ended(client, enqueue(rig, client, task, &processParams{}))
	if next.Status != StatusCompleted || next.Attempts != 1 {
		t.Errorf("the next task: status %s after %d attempts, errors %v", next.Status, next.Attempts, next.Errors)
	}
	if diff := cmp.Diff([]string{"handler"}, rig.effectsOf(id)); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if again, err := client.Task(t.Context(), id); err != nil || cmp.Diff(info, again) != "" {
		t.Errorf("the task has changed after its end: %v\n%s", err, cmp.Diff(info, again))
	}
}

func TestTasksOfALoneWorkerThatWasStoppedRunAgain(t *testing.T) {
	t.Parallel()
	rig, task, client := newProcessRig(t)
	worker := rig.startProcess(processLease, 2)
	id := enqueue(rig, client, task, &processParams{"block"})
	eventually(t, "a start", func() bool { return readOne[int](rig, "select count(*) from starts") == 1 })
	worker.signal(syscall.SIGSTOP)
	stopped := time.Now()
	eventually(t, "two leases", func() bool { return time.Since(stopped) > 2*processLease })
	worker.signal(syscall.SIGCONT)
	eventually(t, "a second start", func() bool { return readOne[int](rig, "select count(*) from starts") == 2 })
	if info := rig.inStatus(client, id, StatusRunning); info.Attempts != 2 {
		t.Errorf("%d attempts, want 2", info.Attempts)
	}
}
