package anchor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// maxReplaced bounds how many replaced declarations a schedule remembers.
const maxReplaced = 20

// compileCrons works out the declared schedules. The error joins those of all tasks, each with its place.
func (c *Client) compileCrons() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.tasks)) {
		task := c.tasks[name]
		job, err := task.compileCron()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: task %q: Cron: %w", task.source, name, err))
		}
		task.job = job
	}
	return errors.Join(errs...)
}

// declaredCrons lists the declared schedules of this client, in order of name.
func (c *Client) declaredCrons() []*cronJob {
	var jobs []*cronJob
	for _, name := range slices.Sorted(maps.Keys(c.tasks)) {
		if job := c.tasks[name].job; job != nil {
			jobs = append(jobs, job)
		}
	}
	return jobs
}

// compileCron is the declared schedule of the task as this client runs it, nil when there is none. The error joins all
// that is wrong with it; the parameters of a task that cannot be are not looked at.
func (r *registeredTask) compileCron() (*cronJob, error) {
	if r.cron == nil {
		return nil, nil
	}
	run, err := resolveRunOptions(r.policy, r.cron.options.run)
	errs := []error{r.cron.mistake, err, r.cron.check(&run)}
	var task *newTask
	if r.cron.params != nil && len(r.errs) == 0 {
		task, err = r.newTask(r.cron.params, &run)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil || task == nil {
		return nil, err
	}
	job := newCronJob(r.name, r.cron, task)
	job.declaredEnabled = job.enabled
	job.declaration = job.digest()
	return job, nil
}

// digest tells declarations apart. It is stored: a change of its format counts as a change of every declaration.
func (j *cronJob) digest() string {
	raw, err := json.Marshal([]any{
		j.name, j.taskName, j.expression, j.timeZone, string(j.catchUp), j.enabled,
		string(j.params), string(j.attributes), j.queue, j.priority, j.maxAttempts, j.tag, j.scope.String(),
	})
	if err != nil {
		panic(err) // texts and numbers
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}

// declare brings the stored schedule in step with the code's declaration, and tells whether that changed it. The
// caller's worker is registered with its declarations, so that workers of two versions see each other.
func (j *cronJob) declare(code *cronJob) (bool, error) {
	if !j.outdated(code) {
		return false, nil
	}
	before := *j
	if !j.exists() || j.declaredEnabled != code.declaredEnabled || j.declaration == "" {
		j.enabled = code.enabled
	}
	j.setDeclaration(code.declaration)
	j.declaredEnabled = code.declaredEnabled
	j.cronTemplate = code.cronTemplate
	j.deleted = false
	return true, j.reschedule(&before)
}

// setDeclaration remembers the present declaration as replaced. "" is none.
func (j *cronJob) setDeclaration(declaration string) {
	var replaced []string
	for _, d := range append(slices.Clone(j.replaced), j.declaration) {
		if d != "" && d != declaration {
			replaced = append(replaced, d)
		}
	}
	j.replaced = replaced[max(0, len(replaced)-maxReplaced):]
	j.declaration = declaration
}

// outdated tells whether the code's declaration should take effect: a new one does, and one that was replaced when
// the workers of the other have gone.
func (j *cronJob) outdated(code *cronJob) bool {
	if j.declaration == code.declaration {
		return false
	}
	lives := j.declarationLives || j.declaration == "" // what Schedule has taken over has no workers
	return !lives || !slices.Contains(j.replaced, code.declaration)
}
