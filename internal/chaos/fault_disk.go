//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// fullDisk fills the disk that the tasks are on, under load, and frees it again. The disk is a small tmpfs, which takes
// root to mount.
func fullDisk(ctx context.Context, s *Suite, n int, t *tally) error {
	return s.split(ctx, n, 1, func(ctx context.Context, _ int) (err error) {
		g, err := s.otherGround(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, g.cluster.Stop()) }()
		disk, err := mountSmall(ctx, filepath.Join(filepath.Dir(g.cluster.LogFile()), "small"), "64m")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, disk.release()) }()
		return s.inScene(ctx, g, "disk", t, func(c *scene) error {
			c.allow = append([]string{diskFull}, shutdownStates...)
			if err := c.moveTo(ctx, disk.folder); err != nil {
				return err
			}
			if err := c.keep(ctx, 2); err != nil {
				return err
			}
			return c.fillDisk(ctx, disk, t)
		})
	})
}

// diskFull is the SQLSTATE of a disk without room.
const diskFull = "53100"

// moveTo moves the scene's database to a folder, as a tablespace.
func (c *scene) moveTo(ctx context.Context, folder string) error {
	admin, err := adminOf(ctx, c.ground)
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	c.db.Reset()
	if _, err := admin.Exec(ctx, "create tablespace small location '"+folder+"'"); err != nil {
		return err
	}
	// The pool's connections take a moment to be gone.
	return until(ctx, 10*time.Second, "the database moved", func() (bool, error) {
		_, err := admin.Exec(ctx, "alter database "+c.name+" set tablespace small")
		return err == nil, nil
	})
}

func (c *scene) fillDisk(ctx context.Context, disk *disk, t *tally) error {
	if err := c.mixture(ctx, 100); err != nil {
		return err
	}
	if _, err := c.db.Exec(ctx, "create table if not exists filler (text text)"); err != nil {
		return err
	}
	for size := 8 << 20; size >= 8<<10; {
		_, err := c.db.Exec(ctx, "insert into filler select repeat(md5(g::text), 32) from generate_series(1, $1::integer) g", size/1024)
		var full *pgconn.PgError
		switch {
		case errors.As(err, &full) && full.Code == diskFull:
			size /= 4
		case err != nil:
			return err
		}
	}
	before, err := c.refusals()
	if err != nil {
		return err
	}
	params := make([]*Params, 2000)
	for i := range params {
		params[i] = c.params(NoOp)
	}
	// Whether there was room for them or not, the answer is the truth.
	ids, err := c.task.RunMany(ctx, c.client, params)
	for i, p := range params {
		e := enqueued{key: p.Key, deed: p.Do, answer: refused}
		if err == nil {
			e.id, e.answer = ids[i], acknowledged
		}
		c.note(e)
	}
	if err := sleep(ctx, 2*lease); err != nil {
		return err
	}
	after, err := c.refusals()
	if err != nil {
		return err
	}
	if after == before {
		return errors.New("the disk was full for nobody but the filler")
	}
	// Giving back space takes some.
	if err := disk.grow(ctx, "128m"); err != nil {
		return err
	}
	t.ran(1)
	return c.worksAgain(ctx, t)
}

// refusals are how often the server had no room.
func (c *scene) refusals() (n int, err error) {
	errs, err := c.ground.log.of(c.name)
	for _, e := range errs {
		if e.state == diskFull {
			n++
		}
	}
	return n, err
}

// disk is a small file system. A shell unmounts it when this process lets go of it, or is gone.
type disk struct {
	folder string
	cmd    *exec.Cmd
	leash  interface{ Close() error }
}

func mountSmall(ctx context.Context, folder, size string) (*disk, error) {
	owner, err := os.Stat(filepath.Join(filepath.Dir(folder), "data"))
	if err != nil {
		return nil, err
	}
	uid, gid := ownerOf(owner)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", `trap '' HUP INT QUIT TERM; read -r nothing; umount -l "$1"; rmdir "$1"; rmdir "${1%/*}" 2>/dev/null; true`, "anchor-chaos-disk", folder)
	leash, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &disk{folder: folder, cmd: cmd, leash: leash}
	mount := exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%s,uid=%d,gid=%d,mode=0700", size, uid, gid), "tmpfs", folder)
	if out, err := mount.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("mount a small disk: %w: %s", err, out), d.leash.Close(), os.Remove(folder))
	}
	return d, nil
}

// ownerOf is the user and the group of a file.
func ownerOf(info os.FileInfo) (uid, gid uint32) {
	stat := info.Sys().(*syscall.Stat_t)
	return stat.Uid, stat.Gid
}

// grow makes room.
func (d *disk) grow(ctx context.Context, size string) error {
	if out, err := exec.CommandContext(ctx, "mount", "-o", "remount,size="+size, d.folder).CombinedOutput(); err != nil {
		return fmt.Errorf("grow a small disk: %w: %s", err, out)
	}
	return nil
}

func (d *disk) release() error { return errors.Join(d.leash.Close(), d.cmd.Wait()) }
