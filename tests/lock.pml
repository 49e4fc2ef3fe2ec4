/*
 * The lock's protocol as a model for spin: LockFile, Gate, LockedFile and ContentionCounter of taskrunner.java, each
 * system call on LOCKFILE, LOCKFILE.tmp (the gate), the counter file or an fcntl lock one atomic step, in the code's
 * order; a step's text names the method. N requests, a kill -9 before every step that another process can see, commands
 * that outlive their holder, and one request more, J, that asks when all else is dead. LockModelTest.java runs what is
 * claimed here. One search by hand, and what led to its error, step by step:
 *
 *   spin -a -DTRACE=1 -DBUG=5 lock.pml && gcc -O1 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m200000 -w24
 *   spin -t -T -DTRACE=1 -DBUG=5 lock.pml
 *
 * Properties, each asserted where it could break; a violated one is the first number of pan's "assertion violated":
 *   (1) Never two commands at once; where an operator removes lock files, never more than 1 + removals.
 *   (2) A contention is counted once and an acquisition never; at each count and at the end the counter is exactly the
 *       contentions since the last acquisition or report, whoever died where.
 *   (3) No deadlock (a gate that nobody can enter is one), J acquires, and nobody ends with an error (73, 74).
 *   (4) Nobody unlinks the LOCKFILE of another living holder, unless an operator removes one between a look and its
 *       unlink: POSIX has no unlink by inode.
 *   (5) A holder has its fcntl lock from link to unlink, and its process closes no descriptor of that inode meanwhile.
 *   (6) One process is in the gate.
 *   (7) Nobody is told that a dead holder holds the lock.
 *   (8) "Its fcntl lock is gone" is not said of a lock that nobody has touched.
 *
 * With a cleaner that removes LOCKFILE.tmp once (CLEANS=1) and no crash (1), (3), (4) and (5) hold. What does not hold:
 *   (2), and (6) and (8), with a cleaner: the gate is what makes counts exact, and then there are two.
 *   (1) and (4) with a cleaner and a crash (CLEANS=1 CRASHES=1): who recovers a stale lock looks, and then unlinks by
 *   path; when .tmp is removed in between, somebody else may have recovered and acquired it.
 *   (3) with two removals (CLEANS=2 CRASHES=0): a lock can stay that nothing clears.
 *   (1) and (4) strictly with an operator's rm (OPRM=1 STRICT=1): the command whose lock was removed runs on.
 *
 * Where model and code differ: no time (10 s at the gate are a choice, GIVEUP; a poll waits until a try would succeed);
 * one user; no foreign content, directories or links; no I/O errors but IOERR; no power loss; the counter's write is
 * one step; evidence is one moment, and dead runs are all alike; what cannot be told is told after any number of looks;
 * channels but the first are closed in one step; --replace and unlock are not there.
 */

/* options */
#ifndef N
#define N 3                     /* requests besides J, each a process */
#endif
#ifndef TWO
#define TWO 0                   /* so many of them make a second request when the first is over, as a new process */
#endif
#if TWO > 0
#define R 2
#else
#define R 1
#endif
#ifndef CRASHES
#define CRASHES 1               /* so many kill -9, at any step of any request but of J's */
#endif
#ifndef THRESHOLD
#define THRESHOLD 1
#endif
#ifndef PATIENCE
#define PATIENCE 0              /* a request may try so often before without counting (--wait) */
#endif
#ifndef OPRM
#define OPRM 0                  /* an operator removes LOCKFILE so many times, at any moment */
#endif
#ifndef TOUCH
#define TOUCH 0                 /* 1: an operator touches LOCKFILE once where there is none, and later removes it */
#endif
#ifndef CLEANS
#define CLEANS 0                /* a cleaner removes LOCKFILE.tmp so many times, at any moment */
#endif
#ifndef STATUS
#define STATUS 0                /* 1: the last process is `taskrunner status`, with or without the gate */
#endif
#ifndef JVM
#define JVM 0                   /* 1: processes 0 and 1 are two executions in one JVM, which does not crash */
#endif
#ifndef KEEP
#define KEEP 0                  /* 1: a command may turn out to be unkillable: LockFile.keep */
#endif
#ifndef GIVEUP
#define GIVEUP 0                /* 1: a request may give up at the gate, as after 10 s */
#endif
#ifndef KEEPSTALE
#define KEEPSTALE 0             /* 1: a request may be one with --on-stale report */
#endif
#ifndef IOERR
#define IOERR 0                 /* 1: a counter may turn out after the link not to be removable */
#endif
#ifndef NI
#define NI 6                    /* inodes, at most 7: the model asserts that they suffice; a number is used again */
#endif
#ifndef STRICT
#define STRICT 0                /* 1: (1) and (4) also where the operator has removed a lock file */
#endif
#ifndef ONLY
#define ONLY 0                  /* n: property n alone is asserted; 0: all, with a cleaner without (2), (6), (8) */
#endif
#ifndef TRACE
#define TRACE 0                 /* 1: the steps are printed in a simulation */
#endif
/* situations that a search tells that it has reached them: "reached: n" */
#define ORPHANED 1              /* a dead holder's command lives */
#define STALE 2                 /* all of a run is dead */
#define OWN_INODE 3             /* the gate's inode is at LOCKFILE: its holder died between link and unlink */
#define LEFT 4                  /* all are dead and a lock file is left */
#define LEFTOVER 5              /* a .tmp that a crash left is used */
#define REPORT 6                /* contentions beyond the threshold */
#define UNKNOWN 7               /* a dead holder's inode is locked, by a request that is still at the gate */
#define NOT_OURS 8              /* the link went to another request's node, since a cleaner removed .tmp */
/*
 * Planted errors. In release: 1 closes before it unlinks, 17 the same and evidence without the holder, 19 goes by the
 * JVM's locks instead of the inode. At the gate: 2 does not look again after its lock, 8 closes before it unlinks .tmp,
 * 13 closes the second channel, 18 uses no leftover. In a look: 3 closes what it opened on the gate's own inode, 7 does
 * not look again after its lock, 14 takes the gate's own inode for a contention, 21 does not ask the JVM's registry, 22
 * looks from outside the gate while another execution of the JVM acquires, 23 goes by the fcntl lock alone. 4 looks and
 * counts without the gate, 5 recovers when the fcntl lock is free, 6 counts while it waits, 9 clears the counter before
 * the link, 10 counts after it left the gate, 12 does not look whose node LOCKFILE is after its link, 15 writes the
 * record when it has left the gate, 16 only before the link, 20 leaves its link when it cannot clear the counter.
 */
#ifndef BUG
#define BUG 0
#endif

#define NP   (N + 1)            /* J is process N */
#define RUNS (NP * R)
#define NI1  (NI + 1)
#define BIT(i) (1 << (i))
#define CLAIMED(n) (ONLY == n || (ONLY == 0 && !(CLEANS > 0 && (n == 2 || n == 6 || n == 8))))
#define CHECK(n, e) assert((n) && (!CLAIMED(n) || (e)))
#if TRACE
#define REACHED(n) skip
#else
c_decl { static char was_reached[9]; }
#define REACHED(n) c_code { if (!was_reached[n]) { was_reached[n] = 1; printf("reached: %d\n", n); } }
#endif

/* file system, kernel, processes */
byte LF, TMP;                   /* the inode at LOCKFILE and at LOCKFILE.tmp; 0: none. There are no other links */
byte refs[NI1];                 /* open descriptors; an inode is used again only without links and descriptors */
byte rec[NI1];                  /* its content: 0 none or torn, otherwise the record of run rec - 1 */
#define DEAD (RUNS + 1)         /* the record of any run whose holder and command are dead */
byte kx[NI1];                   /* fcntl write lock: process + 1 */
byte ks[NI1];                   /* fcntl read locks: a set of processes */
byte cnt;                       /* the counter file; 0 is the same as no file */

byte nd[NP];                    /* LockedFile.channel of the gate's file: its inode */
byte ch[NP];                    /* LockFile.look: the channel on LOCKFILE */
byte tc[NP];                    /* LockedFile.isAt: its channel */
byte kept[NP];                  /* LockedFile.open, what is closed with the gate or the lock: a set of inodes */
byte lk[NP];                    /* which channels have an entry in the JDK's table of locks: 1 nd, 2 ch, 4 tc */
byte kl[NP];                    /* the same of kept */
byte who[NP];                   /* LockFile.look: the record as read */

bool alive[RUNS];               /* the holder lives */
bool cmd[RUNS];                 /* the command lives */
bool started[NP];
byte nfin, crashes, ops, cleans;
#if OPRM
bool slipped;                   /* for (4): the operator's rm came between a look and its unlink */
#endif
byte ti;                        /* the inode that the operator touched */
bool touched;
#if JVM
byte mutex;                     /* Gate.THIS_JVM of the shared JVM: process + 1 */
byte reg[2];                    /* LockFile.HELD of the shared JVM: inodes */
byte jfin;
#endif

/* what only the properties ask */
byte G;                         /* what the counter must be */
byte ncmd;                      /* commands that live */
bool has[NP];                   /* holds the lock: from its link to its unlink */
byte inside;                    /* how many are in the gate */
bool inG[NP];
byte ii;                        /* a loop's; 0 outside */

#if TRACE
#define SAY(text, x) printf("P%d ", p); printf(text, x); printf("  | LOCKFILE=%d .tmp=%d count=%d\n", LF, TMP, cnt);
#define TELL(text, x) printf(text, x);
#else
#define SAY(text, x)
#define TELL(text, x)
#endif

/* OverlappingFileLockException: the JVM has a lock on the inode by the JDK's table, whatever the kernel says */
#define JD(q, i) ((nd[q] == (i) && (lk[q] & 1)) || (ch[q] == (i) && (lk[q] & 2)) || (tc[q] == (i) && (lk[q] & 4)) \
  || (kl[q] & BIT(i)))
#if JVM
#define J(q)     ((q) < 2 -> 0 : (q))
#define JDK(i)   ((p < 2 && (JD(0, i) || JD(1, i))) || (p >= 2 && JD(p, i)))
#define ALIVE(w) (((w) < 2 * R && jfin < 2) || ((w) >= 2 * R && alive[w]))
#define MAYCRASH (p < N && p >= 2 && crashes < CRASHES)
#else
#define J(q)     (q)
#define JDK(i)   JD(p, i)
#define ALIVE(w) alive[w]
#define MAYCRASH (p < N && crashes < CRASHES)
#endif

#define EXOK(i) ((kx[i] == 0 || kx[i] == J(p) + 1) && (ks[i] & ~BIT(J(p))) == 0)
#define SHOK(i) (kx[i] == 0 || kx[i] == J(p) + 1)

inline lockEx(i) { kx[i] = J(p) + 1; ks[i] = ks[i] & ~BIT(J(p)) }
inline lockSh(i) { if :: kx[i] == J(p) + 1 -> kx[i] = 0 :: else fi; ks[i] = ks[i] | BIT(J(p)) }

/* an inode without links and descriptors is gone with its content */
inline gc(i) { if :: i != 0 && refs[i] == 0 && LF != i && TMP != i -> rec[i] = 0; kx[i] = 0; ks[i] = 0 :: else fi }

/* the lowest inode that is free */
inline alloc(v) {
  v = 1;
  do
  :: v <= NI && (refs[v] != 0 || LF == v || TMP == v) -> v++
  :: else -> break
  od;
  assert(v <= NI)
}

/* close(2): drops all locks of the process on the inode */
inline drop(i) {
  if :: kx[i] == J(p) + 1 -> kx[i] = 0 :: else fi;
  ks[i] = ks[i] & ~BIT(J(p));
  refs[i]--;
  gc(i)
}
#if JVM
#define TRAP(i) CHECK(5, \
  !((has[0] && nd[0] == i && p < 2) || (has[1] && nd[1] == i && p < 2) || (has[p] && nd[p] == i)))
#else
#define TRAP(i) CHECK(5, !(has[p] && nd[p] == i))
#endif
/* f: the channel's bit in lk */
inline closeIt(c, f) { d_step { TRAP(c); lk[p] = lk[p] & ~f; drop(c); c = 0 } }

/* it stays open until the gate or the lock is closed */
inline keep(c, f) {
  d_step {
    if :: lk[p] & f -> kl[p] = kl[p] | BIT(c) :: else fi;
    lk[p] = lk[p] & ~f;
    if
    :: kept[p] & BIT(c) -> refs[c]--
    :: else -> kept[p] = kept[p] | BIT(c)
    fi;
    c = 0
  }
}
inline keepFound() { if :: ch[p] != 0 -> keep(ch[p], 2) :: else fi }

inline closeKept() {
  d_step {
    ii = 1;
    do
    :: ii <= NI -> if :: kept[p] & BIT(ii) -> TRAP(ii); drop(ii) :: else fi; ii++
    :: else -> break
    od;
    ii = 0;
    kept[p] = 0;
    kl[p] = 0
  }
}

inline enterGate() { inside++; inG[p] = 1; CHECK(6, inside == 1) }
inline leftGate() { inside = inside - inG[p]; inG[p] = 0 }

/* the run is dead altogether: its record is that of any dead one */
inline buried(w) {
    ii = 1;
    do
    :: ii <= NI -> if :: rec[ii] == w + 1 -> rec[ii] = DEAD :: else fi; ii++
    :: else -> break
    od;
    ii = 0;
    do
    :: ii < NP -> if :: who[ii] == w + 1 -> who[ii] = DEAD :: else fi; ii++
    :: else -> break
    od;
    ii = 0
}

/* kill -9: fcntl locks and descriptors go, files and the command stay */
inline crashNow() {
  d_step {
    TELL("P%d ** kill -9 **\n", p)
    crashes++;
    alive[r] = 0;
    has[p] = 0;
    leftGate();
    if :: nd[p] -> refs[nd[p]]-- :: else fi;
    if :: ch[p] -> refs[ch[p]]-- :: else fi;
    if :: tc[p] -> refs[tc[p]]-- :: else fi;
    nd[p] = 0; ch[p] = 0; tc[p] = 0; lk[p] = 0;
    ii = 1;
    do
    :: ii <= NI ->
       if :: kept[p] & BIT(ii) -> refs[ii]-- :: else fi;
       if :: kx[ii] == J(p) + 1 -> kx[ii] = 0 :: else fi;
       ks[ii] = ks[ii] & ~BIT(J(p));
       gc(ii);
       ii++
    :: else -> break
    od;
    kept[p] = 0;
    kl[p] = 0;
    if :: !cmd[r] -> buried(r) :: else fi;
    ii = 0
  }
}

#define ENDRUN v = 0; s = 0; who[p] = 0; c = 0; aft = REFUSED; pat = 0; st = 0; linked = 0; out = 0; FORGET k++; \
  if :: k < (p < TWO -> 2 : 1) -> goto start :: else -> k = 0; r = 0; nfin++; goto fin fi

/*
 * READ: a step that changes nothing that another process can see (stat, open, read). STEP: one that does, before which
 * the process may be killed: to be killed before a READ is to be killed before the next STEP.
 */
#define READ(text, x, body) atomic { SAY(text, x) body }
#define STEP(text, x, body) \
  if \
  :: atomic { SAY(text, x) body } \
  :: atomic { MAYCRASH -> crashNow(); ENDRUN } \
  fi

/* LockedFile.isAt, of a file whose identity is not proven yet; s: what was at the path before it was opened, or 0 */
#define PROVE(PATH, yes, no, ACT) \
  READ("isAt: lstat, inode %d", PATH, \
    if :: PATH == 0 || (s != 0 && s != PATH) -> s = 0; goto no \
    :: else -> s = 0; linked = (LF == TMP) fi); \
  READ("isAt: open, inode %d", PATH, if :: PATH == 0 -> goto no :: else -> tc[p] = PATH; refs[tc[p]]++ fi); \
  STEP("isAt: tryLock shared, inode %d", tc[p], \
    if \
    :: JDK(tc[p]) -> ACT; goto yes \
    :: else -> \
       if :: SHOK(tc[p]) -> lockSh(tc[p]); lk[p] = lk[p] | 4 :: else fi; \
       keep(tc[p], 4); goto no \
    fi)
/* the same once it is proven */
#define ISAT(PATH, inode, no) READ("isAt: lstat, inode %d", PATH, SEEN if :: PATH != inode -> no :: else fi)
#if OPRM
#define SEEN seen = ops;
#define FORGET seen = 0;
#define SLIP slipped = 1
#define UNSEEN ((ops > seen || slipped) && !STRICT)
#else
#define SEEN
#define FORGET
#define SLIP skip
#define UNSEEN false
#endif

/* (4): nobody unlinks the LOCKFILE of another living holder; the own one is no longer held from here on */
#define IDX(q) ((q) < NP -> (q) : 0)
#define OTHERS(q) ((q) < NP && (q) != p && has[IDX(q)] && nd[IDX(q)] == LF)
inline unlinkLF() {
  d_step {
    if
    :: LF != 0 && (OTHERS(0) || OTHERS(1) || OTHERS(2) || OTHERS(3) || OTHERS(4)) -> CHECK(4, UNSEEN); SLIP
    :: else
    fi;
    if :: LF != 0 && nd[p] == LF -> has[p] = 0 :: else fi;
    ii = LF; LF = 0; gc(ii); ii = 0
  }
}
inline unlinkTMP() { d_step { ii = TMP; TMP = 0; gc(ii); ii = 0 } }

/* what comes after the gate, or a look from outside, is left */
#define REFUSED 0
#define ANEW 1                  /* the gate is to be entered anew */
#define ERROR 2                 /* exit 73 or 74 */
#define TOLD 3                  /* status */
#define SETTLE 4                /* Looks.settle: a look from outside, then the gate anew */

#if STATUS
#define ISSTATUS (p == N - 1)
#define ENTERS (!(ISSTATUS && !gated))
#else
#define ISSTATUS false
#define ENTERS true
#endif
/* a look that could decide */
#define DECIDED(then) \
  if \
  :: out && ENTERS -> aft = ANEW; goto closeLook \
  :: else -> \
     if \
     :: ISSTATUS -> aft = TOLD; if :: inG[p] -> goto closeGate :: else -> goto closeLook fi \
     :: else -> then \
     fi \
  fi
/* (3): J, when all else is dead, is not refused */
#define REFUSE st = 0; \
  DECIDED(if :: pat > 0 && BUG != 6 -> aft = REFUSED; goto closeGate :: else -> CHECK(3, p < N); goto count fi)
/* one that could not, Looks.wantsAnother */
#define LOOKAGAIN aft = SETTLE; if :: out -> goto closeLook :: else -> goto closeGate fi
#if KEEPSTALE
#define RECOVER if :: keepStale -> REFUSE :: else -> DECIDED(goto recover) fi
#else
#define RECOVER DECIDED(goto recover)
#endif

/* a request */
proctype P(byte p) {
  byte k;                       /* which of its requests */
  byte r;                       /* its run */
  byte v;                       /* the counter as read */
  byte s;                       /* what was at the path before it was opened */
  byte aft;                     /* what comes after the gate */
  byte pat;                     /* tries left that do not count */
  byte st;                      /* Looks.agreeing, of looks that found it stale */
  bool out;                     /* looks from outside the gate */
  bool linked;                  /* the gate's file is at LOCKFILE, too */
  byte c;                       /* for (2): how often this request was counted */
#if OPRM
  byte seen;                    /* for (4): what the operator had removed by the look before the unlink */
#endif
#if STATUS
  bool gated;
#endif
#if KEEPSTALE
  bool keepStale;
#endif

start:
  atomic {
    if
    /* the processes are alike: in the order of their first start */
    :: p < N && (k > 0 || JVM || ISSTATUS || p == 0 || p == TWO || started[(p == 0 -> 0 : p - 1)])
    :: p == N && nfin == N && ncmd == 0 && (ti == 0 || LF != ti)
    fi;
    r = p * R + k;
    started[p] = 1;
    alive[r] = 1;
    if
    :: pat = 0
    :: p < N && PATIENCE > 0 && !ISSTATUS -> pat = PATIENCE
    fi;
#if KEEPSTALE
    if :: keepStale = 0 :: p < N -> keepStale = 1 fi;
#endif
    TELL("P%d starts\n", p)
    CHECK(2, p < N || cnt == G);
    if :: p == N && LF != 0 && ops == 0 -> REACHED(LEFT) :: else fi;
#if STATUS
    if
    :: ISSTATUS -> if :: gated = 1 :: gated = 0; out = 1; goto look fi
    :: else -> gated = 1
    fi;
#endif
  }

attempt:
#if BUG == 4
  /* who finds the lock held is refused, and counts, outside */
  READ("BUG: open LOCKFILE, inode %d", LF, if :: LF == 0 -> goto enter :: else -> ch[p] = LF; refs[LF]++ fi);
  STEP("BUG: tryLock shared, inode %d", ch[p],
    if :: SHOK(ch[p]) -> lockSh(ch[p]); lk[p] = lk[p] | 2 :: else -> goto bug4 fi);
  STEP("BUG: close inode %d", ch[p], closeIt(ch[p], 2); goto enter);
bug4:
  READ("BUG: read the counter, %d", cnt, v = cnt);
  STEP("BUG: write the counter, was %d", v,
    d_step { cnt = (v > THRESHOLD -> 0 : v + 1); G = (G > THRESHOLD -> 0 : G + 1); c++; CHECK(2, cnt == G); v = 0 });
  STEP("BUG: close inode %d", ch[p], closeIt(ch[p], 2); goto over);
#endif
enter:
#if JVM
  /* Gate.enter: THIS_JVM.tryLock */
  if
  :: p < 2 -> atomic { mutex == 0 -> mutex = p + 1 }
  :: else
  fi;
enterFile:
#endif
  /* Gate.open */
  READ("gate: lstat .tmp, inode %d", TMP, if :: TMP == 0 -> goto enterNew :: else -> s = TMP fi);
  READ("gate: open .tmp, inode %d", TMP,
    if :: BUG == 18 || TMP == 0 -> goto retry :: else -> nd[p] = TMP; refs[TMP]++; goto enterLock fi);
enterNew:
  STEP("gate: create .tmp, where is inode %d", TMP,
    if :: TMP != 0 -> goto retry :: else -> alloc(nd[p]); TMP = nd[p]; refs[TMP]++ fi);
enterLock:
  /* Gate.tryEnter */
  STEP("gate: tryLock, inode %d", nd[p],
    if
    :: JDK(nd[p]) -> assert(false)                              /* OverlappingFileLockException: nobody catches it */
    :: else ->
       if
       :: EXOK(nd[p]) -> lockEx(nd[p]); lk[p] = lk[p] | 1
#if BUG == 2
          ; enterGate(); goto record
#endif
       :: else -> goto notEntered
       fi
    fi);
#if BUG == 13
  PROVE(TMP, bug13, notEntered, skip);
bug13:
  STEP("BUG: close the second channel, inode %d", tc[p], enterGate(); closeIt(tc[p], 4); has[p] = 1; goto record);
#else
  PROVE(TMP, entered, notEntered, keep(tc[p], 4); enterGate());
#endif
notEntered:
  STEP("gate: not entered, close inode %d", nd[p], s = 0; linked = 0; closeIt(nd[p], 1));
  if
  :: kept[p] != 0 -> STEP("gate: not entered, close the others, %d", kept[p], closeKept())
  :: else
  fi;
retry:
  /* Gate.enter: every few milliseconds; waits until a try would succeed, so that a gate that is stuck is a deadlock */
  if
#if BUG == 18
  :: atomic { TMP == 0 -> s = 0; goto enter }
#elif JVM
  :: atomic { TMP == 0 || (EXOK(TMP) && !JDK(TMP)) -> s = 0; goto enterFile }
#else
  :: atomic { TMP == 0 || EXOK(TMP) -> s = 0; goto enter }
#endif
#if GIVEUP
  :: atomic {
       p < N -> s = 0;                                          /* 10 s: exit 74 */
#if JVM
       if :: p < 2 -> mutex = 0 :: else fi;
#endif
       goto over
     }
#endif
  fi;
entered:
  if
  :: linked ->
     /* a hard link: to anything but LOCKFILE it is an error, 73 */
     READ("gate: lstat LOCKFILE, inode %d", LF,
       REACHED(OWN_INODE); linked = 0;
       if
       :: LF != nd[p] -> aft = ERROR; leftGate(); goto closeFile
       :: else -> if :: rec[nd[p]] != 0 -> goto look :: else fi
       fi)
  :: else
  fi;
record:
  /* Gate.record; a new node is empty */
#if BUG != 15 && BUG != 16
  if
  :: rec[nd[p]] != 0 -> STEP("gate: truncate the record in inode %d", nd[p], REACHED(LEFTOVER); rec[nd[p]] = 0)
  :: else
  fi;
  STEP("gate: write the record into inode %d", nd[p], rec[nd[p]] = r + 1);
#endif

  /* LockFile.look */
look:
  READ("look: lstat LOCKFILE, inode %d", LF,
    if :: LF == 0 -> DECIDED(goto free) :: else -> s = LF fi);
#if JVM
  READ("look: HELD? inode %d", s,
    if :: BUG != 21 && p < 2 && (s == reg[0] || s == reg[1]) -> s = 0; REFUSE :: else fi);
#endif
  READ("look: open LOCKFILE, inode %d", LF, if :: LF == 0 -> s = 0; goto look :: else -> ch[p] = LF; refs[LF]++ fi);
  STEP("look: tryLock shared, inode %d", ch[p],
    if
    :: JDK(ch[p]) -> goto lookOwn
    :: else -> if :: SHOK(ch[p]) -> lockSh(ch[p]); lk[p] = lk[p] | 2 :: else -> goto lookLocked fi
    fi);
  READ("look: read the record, %d", rec[ch[p]],
    who[p] = rec[ch[p]];
    if :: BUG == 7 -> s = 0; goto lookEvidence :: else fi);
  PROVE(LF, lookEvidence, lookChanged, linked = 0; keep(tc[p], 4));
lookChanged:
  READ("look: LOCKFILE is now inode %d", LF, who[p] = 0; linked = 0; keepFound(); goto look);

lookEvidence:
  /* StaleCheck.judge: one moment */
  READ("look: evidence of record %d", who[p],
    if
    :: who[p] == 0 -> TELL("P%d finds FOREIGN\n", p) REFUSE
    :: else ->
       if
       :: who[p] != DEAD && ALIVE(who[p] - 1) && BUG != 17 ->
          TELL("P%d finds HELD, the fcntl lock gone\n", p)
          CHECK(8, KEEP);
          who[p] = 0; REFUSE
       :: else ->
          if
          :: who[p] != DEAD && cmd[who[p] - 1] && BUG != 5 ->
             TELL("P%d finds ORPHANED\n", p) REACHED(ORPHANED); who[p] = 0; REFUSE
          :: else ->
             TELL("P%d finds STALE\n", p) REACHED(STALE); who[p] = 0;
             if :: st == 0 -> st = 1; LOOKAGAIN :: else -> RECOVER fi
          fi
       fi
    fi);
lookLocked:
  /* StaleCheck.judgeLocked */
  READ("look: locked, record %d", rec[ch[p]],
    s = 0;
    if
    :: BUG == 23 || rec[ch[p]] == 0 || (rec[ch[p]] != DEAD && ALIVE(rec[ch[p]] - 1)) ->
       TELL("P%d finds HELD\n", p)
       CHECK(7, rec[ch[p]] == 0 || (rec[ch[p]] != DEAD && ALIVE(rec[ch[p]] - 1)));
       REFUSE
    :: else -> REACHED(UNKNOWN)
    fi);
  goto lookUnknown;
lookOwn:
  READ("look: this JVM's own inode, record %d", rec[ch[p]],
    if
    :: inG[p] && s == nd[p] ->
       s = 0;
       who[p] = rec[ch[p]];
       if :: BUG == 3 -> closeIt(ch[p], 2); has[p] = 1 :: else -> keepFound() fi;
       if
       :: who[p] == r + 1 -> REACHED(NOT_OURS); who[p] = 0; goto removeOwn
       :: BUG == 14 && who[p] != r + 1 -> who[p] = 0; REFUSE
       :: BUG != 14 && who[p] != r + 1 -> TELL("P%d finds STALE\n", p) who[p] = 0; RECOVER
       fi
    :: else -> s = 0
    fi);
lookUnknown:
  READ("look: it cannot be told, inode %d", ch[p],
    st = 0;
    if :: LOOKAGAIN :: p < N -> REFUSE fi);

  /* ContentionCounter.increment */
count:
#if BUG == 10
  aft = REFUSED; goto closeGate;
bug10:
#endif
  READ("count: read %d", cnt, v = cnt);
  STEP("count: write, read was %d", v,
    if :: v > THRESHOLD -> REACHED(REPORT) :: else fi;
    d_step {
      cnt = (v > THRESHOLD -> 0 : v + 1); G = (G > THRESHOLD -> 0 : G + 1); c++; v = 0; aft = REFUSED;
      CHECK(2, cnt == G)
    }
#if BUG == 10
    ; goto over
#elif BUG == 6
    ; CHECK(2, pat == 0)
#endif
    );
  goto closeGate;

  /* LockFile.inside: who recovers a stale lock */
recover:
  ISAT(TMP, nd[p], aft = ANEW; goto closeGate);
  ISAT(LF, (ch[p] == 0 -> nd[p] : ch[p]), keepFound(); goto look);
  STEP("recover: unlink LOCKFILE, inode %d", LF, unlinkLF(); st = 0; keepFound(); goto look);

  /* another request, whose gate a cleaner removed, has linked this one's node */
removeOwn:
  ISAT(LF, nd[p], goto look);
  STEP("remove: unlink LOCKFILE, inode %d", LF, unlinkLF(); goto look);

  /* Gate.publish */
free:
#if BUG != 15
  if
  :: rec[nd[p]] != 0 && rec[nd[p]] != r + 1 -> STEP("publish: truncate inode %d", nd[p], rec[nd[p]] = 0)
  :: else
  fi;
  if
  :: rec[nd[p]] == 0 -> STEP("publish: write the record into inode %d", nd[p], rec[nd[p]] = r + 1)
  :: else
  fi;
#endif
#if BUG == 9
  STEP("BUG: unlink the counter, %d", cnt, cnt = 0);
#endif
  /* LockFile.link, by the path of the gate */
  STEP("link LOCKFILE to .tmp, inode %d", TMP,
    if
    :: TMP == 0 || LF != 0 -> goto linkFailed
    :: else ->
       LF = TMP;
       if :: TMP == nd[p] -> has[p] = 1; CHECK(5, kx[nd[p]] == J(p) + 1) :: else fi;
       if :: BUG == 9 -> G = 0 :: else fi;
       if :: BUG == 12 -> has[p] = 1 :: else fi
    fi);
#if BUG != 12
  /* LockFile.held */
  READ("held: isWholeAt, inode %d", LF,
    if :: LF != nd[p] || (rec[nd[p]] != r + 1 && BUG != 15) -> aft = ANEW; goto closeGate :: else fi);
#endif
  STEP("held: unlink the counter, %d", cnt,
#if IOERR
    if :: p < N -> aft = ERROR; goto undo :: true fi;
#endif
    cnt = 0; G = 0);
  ISAT(TMP, nd[p], leftGate(); goto acquired);
  STEP("held: unlink .tmp, inode %d", TMP, if :: TMP != 0 -> unlinkTMP() :: else fi; leftGate());
acquired:
#if JVM
  if :: p < 2 -> reg[p] = nd[p]; mutex = 0 :: else fi;
#endif
  goto runCommand;
linkFailed:
  ISAT(TMP, nd[p], aft = ANEW; goto closeGate);
  goto look;
#if IOERR
undo:
  ISAT(LF, nd[p], goto closeGate);
  STEP("undo: unlink LOCKFILE, inode %d", LF, if :: BUG != 20 -> unlinkLF() :: else fi);
#endif

  /* Gate.close */
closeGate:
#if BUG == 8
  STEP("BUG: close inode %d first", nd[p], s = 0; has[p] = 0; keepFound(); closeIt(nd[p], 1); closeKept());
  STEP("BUG: unlink .tmp, inode %d", TMP, if :: TMP != 0 -> unlinkTMP() :: else fi; leftGate(); goto closed);
#endif
  ISAT(TMP, nd[p], goto closeFile);
  STEP("gate: unlink .tmp, inode %d", TMP, if :: TMP != 0 -> unlinkTMP() :: else fi; leftGate());
closeFile:
  STEP("gate: close inode %d", nd[p], s = 0; has[p] = 0; leftGate(); keepFound(); closeIt(nd[p], 1));
  STEP("gate: close the others, %d", kept[p], closeKept());
closed:
#if JVM
  if :: p < 2 -> mutex = 0 :: else fi;
#endif
  if
  :: atomic { aft == ANEW -> aft = REFUSED; goto enter }
  :: atomic { aft == SETTLE -> aft = REFUSED; out = 1; goto lookOut }
  :: atomic { aft == REFUSED && pat > 0 -> pat--; st = 0; goto attempt }        /* Execution.acquireLock: --wait */
#if BUG == 10
  :: atomic { aft == REFUSED && pat == 0 -> goto bug10 }
#endif
  :: else -> goto over
  fi;

  /* Looks.settle */
lookOut:
#if JVM
  if
  :: p < 2 && BUG != 22 -> atomic { mutex == 0 -> mutex = p + 1 }
  :: else
  fi;
#endif
  goto look;
closeLook:
  if
  :: ch[p] != 0 || kept[p] != 0 -> STEP("look: close inode %d", ch[p], s = 0; keepFound(); closeKept())
  :: else
  fi;
#if JVM
  if :: p < 2 && BUG != 22 -> mutex = 0 :: else fi;
#endif
  if
  :: atomic { aft == SETTLE -> aft = REFUSED; goto lookOut }
  :: atomic { aft == ANEW -> aft = REFUSED; out = 0; goto enter }
  :: else -> goto over
  fi;

  /* Execution.runCommand */
runCommand:
#if BUG == 15
  STEP("BUG: write the record into inode %d", nd[p], rec[nd[p]] = r + 1);
#endif
  STEP("starts the command of run %d", r,
    CHECK(5, kx[nd[p]] == J(p) + 1);
    CHECK(1, ncmd <= (STRICT -> 0 : ops));
    CHECK(2, c == 0);
    cmd[r] = 1; ncmd++
#if KEEP
    ; if :: p < N -> goto closeLock :: true fi
#endif
    );
  STEP("ends the command of run %d", r,
    cmd[r] = 0; ncmd--;
    CHECK(5, kx[nd[p]] == J(p) + 1));

  /* LockFile.release */
#if BUG == 1 || BUG == 17
  STEP("BUG: close inode %d first", nd[p], has[p] = 0; closeIt(nd[p], 1); closeKept());
  STEP("BUG: unlink LOCKFILE, inode %d", LF, if :: LF != 0 -> unlinkLF() :: else fi; goto over);
#endif
#if BUG == 19
  READ("BUG: a lock of this JVM at LOCKFILE? inode %d", LF,
    SEEN
    if :: LF == 0 || !JDK(LF) -> goto closeLock :: else fi);
#else
  ISAT(LF, nd[p], goto closeLock);
#endif
  STEP("release: unlink LOCKFILE, inode %d", LF,
    CHECK(5, kx[nd[p]] == J(p) + 1);
    if :: LF != 0 -> unlinkLF() :: else fi);
closeLock:
  STEP("release: close inode %d", nd[p], has[p] = 0; closeIt(nd[p], 1));
  STEP("release: close the others, %d", kept[p], closeKept());
#if JVM
  if :: p < 2 -> reg[p] = 0 :: else fi;
#endif

over:
  STEP("exits, was counted %d times", c,
    CHECK(2, c <= 1);
    CHECK(3, aft != ERROR || IOERR || ((OPRM || CLEANS) && p < N));
    d_step {
      alive[r] = 0;
#if JVM
      if :: p < 2 && k == (p < TWO -> 1 : 0) -> jfin++ :: else fi;
#else
      if :: !cmd[r] -> buried(r) :: else fi;
#endif
      ii = 0
    };
    ENDRUN);
fin:
  skip
}

/* what else happens */
inline dies(w) { d_step { cmd[w] = 0; ncmd--; buried(w); TELL("the orphaned command of run %d dies\n", w) } }
inline unlinkOp() { d_step { ii = LF; LF = 0; gc(ii); ii = 0 } }

active proctype World() {
end:
  do
  :: atomic { cmd[0] && !ALIVE(0) -> dies(0) }
  :: atomic { cmd[1] && !ALIVE(1) -> dies(1) }
#if N * R > 2
  :: atomic { cmd[2] && !ALIVE(2) -> dies(2) }
#endif
#if N * R > 3
  :: atomic { cmd[3] && !ALIVE(3) -> dies(3) }
#endif
#if N * R > 4
  :: atomic { cmd[4] && !ALIVE(4) -> dies(4) }
#endif
#if N * R > 5
  :: atomic { cmd[5] && !ALIVE(5) -> dies(5) }
#endif
#if N * R > 6
  :: atomic { cmd[6] && !ALIVE(6) -> dies(6) }
  :: atomic { cmd[7] && !ALIVE(7) -> dies(7) }
#endif
#if OPRM
  :: atomic { ops < OPRM && LF != 0 && nfin < N -> ops++; TELL("operator: rm LOCKFILE, inode %d\n", LF) unlinkOp() }
#endif
#if TOUCH
  :: atomic {
       !touched && LF == 0 && nfin < N ->
       touched = 1; alloc(ti); LF = ti; TELL("operator: touch LOCKFILE, inode %d\n", LF)
     }
  :: atomic { ti != 0 && LF == ti -> TELL("operator: rm of the touched LOCKFILE, inode %d\n", ti) ti = 0; unlinkOp() }
#endif
#if CLEANS
  :: atomic {
       cleans < CLEANS && TMP != 0 && nfin < N ->
       cleans++; TELL("cleaner: rm .tmp, inode %d\n", TMP) unlinkTMP()
     }
#endif
  od
}

init {
  atomic {
    ii = 0;
    do
    :: ii < NP -> run P(ii); ii++
    :: else -> break
    od;
    ii = 0
  }
}
