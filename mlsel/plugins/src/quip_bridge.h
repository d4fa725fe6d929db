// What pair_quip asks of libmlsel_quip.so. Every function returns null, or QUIP's message.
#ifndef MLSEL_QUIP_BRIDGE_H
#define MLSEL_QUIP_BRIDGE_H

extern "C" {

/// The arguments of QUIP's wrapper for LAMMPS: full neighbour lists, `ilist` counts from 0 and
/// `neigh` from 1, arrays of nlocal + nghost atoms; energies eV, forces eV/Å, virials eV (QUIP's
/// order, 9 numbers).
struct mlsel_quip_call {
  int nlocal, nghost, inum, sum_neigh;
  int *atomic_numbers, *tags, *ilist, *numneigh, *neigh;
  double *lattice, *x;
  double energy;
  double virial[9];
  double *local_energies, *local_virials, *forces;
};

typedef const char *mlsel_quip_load_function(const char *file, const char *init, double *cutoff);
typedef const char *mlsel_quip_compute_function(mlsel_quip_call *call);
}

#endif
