// The one library that is linked with QUIP. QUIP keeps its potential in one saved variable, and
// ends the process at bad input unless it runs under Python, where it calls a hook that f90wrap
// defines. We answer both questions (ours are the first definitions that the loader finds), and
// come back to the caller with QUIP's message.

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "quip_bridge.h"

extern "C" {
void quip_lammps_potential_initialise(int *pot, int *n_pot, double *cutoff, const char *file,
                                      int *n_file, const char *init, int *n_init);
void quip_lammps_wrapper(int *nlocal, int *nghost, int *atomic_numbers, int *tags, int *inum,
                         int *sum_neigh, int *ilist, int *numneigh, int *neigh, double *lattice,
                         int *pot, int *n_pot, double *x, double *energy, double *local_energies,
                         double *virial, double *local_virials, double *forces);
}

namespace {

constexpr int MESSAGE_SIZE = 1024;
char message[MESSAGE_SIZE];
std::jmp_buf way_back;
bool can_return = false;

int potential[100];
int n_potential = 0;

// QUIP reads an XML file from within its folder, and stays there when it gives up
int folder = -1;

void leave_folder()
{
  if (folder < 0) return;
  if (fchdir(folder) != 0) std::perror("pair_style quip: back to the working folder");
  close(folder);
  folder = -1;
}

/// QUIP's XML parser ends the process where it is at a loss, with status 0: a run that was not done
/// would look done. Called by exit(), before whatever was to be called when the potential was read.
/// There is no way back from here: exit() has destroyed what other libraries keep for this thread.
void not_done()
{
  if (!can_return) return;
  std::fputs("ERROR: pair_style quip: QUIP's parser can't read the file and ended the process; what it "
             "says stands above\n",
             stderr);
  std::_Exit(EXIT_FAILURE);
}

}    // namespace

extern "C" {

/// QUIP asks whether to call the hook or to end the process.
__attribute__((visibility("default"))) int quippy_running_() { return can_return ? 1 : 0; }

/// The hook: QUIP's system_abort ends here.
__attribute__((visibility("default"))) void f90wrap_abort_(char *text, int length)
{
  // Fortran's text is padded with blanks and has lines
  int n = 0;
  for (int k = 0; k < length && text[k] && n < MESSAGE_SIZE - 1; ++k) {
    const bool blank = text[k] == ' ' || text[k] == '\n' || text[k] == '\r';
    if (!blank)
      message[n++] = text[k];
    else if (n > 0 && message[n - 1] != ' ')
      message[n++] = ' ';
  }
  message[n > 0 && message[n - 1] == ' ' ? n - 1 : n] = '\0';
  // of a Fortran traceback, what was raised
  const char raised[] = "kind unspecified ";
  if (const char *at = std::strstr(message, raised)) {
    at += sizeof raised - 1;
    std::memmove(message, at, std::strlen(at) + 1);
  }
  if (can_return) std::longjmp(way_back, 1);
}

__attribute__((visibility("default"))) const char *mlsel_quip_load(const char *file,
                                                                   const char *init, double *cutoff)
{
  // no object with a destructor may live between setjmp and QUIP's return
  int n_file = static_cast<int>(std::strlen(file));
  int n_init = static_cast<int>(std::strlen(init));
  folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  can_return = true;
  if (setjmp(way_back)) {
    can_return = false;
    n_potential = 0;
    leave_folder();
    return message;
  }
  n_potential = 0;
  std::atexit(not_done);    // each time: it must be the first that is called
  quip_lammps_potential_initialise(potential, &n_potential, cutoff, file, &n_file, init, &n_init);
  if (n_potential > static_cast<int>(sizeof(potential) / sizeof(int))) {
    can_return = false;
    leave_folder();
    std::snprintf(message, MESSAGE_SIZE, "QUIP's handle has %d integers, %zu expected", n_potential,
                  sizeof(potential) / sizeof(int));
    return message;
  }
  quip_lammps_potential_initialise(potential, &n_potential, cutoff, file, &n_file, init, &n_init);
  can_return = false;
  leave_folder();
  return nullptr;
}

__attribute__((visibility("default"))) const char *mlsel_quip_compute(mlsel_quip_call *call)
{
  can_return = true;
  if (setjmp(way_back)) {
    can_return = false;
    return message;
  }
  quip_lammps_wrapper(&call->nlocal, &call->nghost, call->atomic_numbers, call->tags, &call->inum,
                      &call->sum_neigh, call->ilist, call->numneigh, call->neigh, call->lattice,
                      potential, &n_potential, call->x, &call->energy, call->local_energies,
                      call->virial, call->local_virials, call->forces);
  can_return = false;
  return nullptr;
}
}
