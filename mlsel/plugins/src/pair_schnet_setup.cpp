// pair_style schnet before its first step: arguments, files, models, threads.

#include "pair_schnet.h"

#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "atom.h"
#include "bridge.h"
#include "comm.h"
#include "error.h"
#include "ranks.h"
#include "update.h"
#include "utils.h"

using namespace LAMMPS_NS;

// pair_style schnet [compressed|torchscript] [device cpu|cuda|cuda:N] [threads N]
void PairMlselSchnet::settings(int narg, char **arg)
{
  mode = Mode::automatic;
  device = -2;
  n_threads = 0;
  for (int k = 0; k < narg; k++) {
    const std::string word = arg[k];
    const bool last = k + 1 == narg;
    if (word == "compressed") {
      mode = Mode::compressed;
    } else if (word == "torchscript") {
      mode = Mode::torchscript;
    } else if (word == "device" && !last) {
      const std::string name = arg[++k];
      if (name == "cpu")
        device = -1;
      else if (name == "cuda")
        device = -2;
      else if (name.rfind("cuda:", 0) == 0 && utils::is_integer(name.substr(5)))
        device = std::max(0, std::atoi(name.c_str() + 5));
      else
        error->all(FLERR, "pair_style schnet: device is {}; it can be cpu, cuda or cuda:N", name);
    } else if (word == "threads" && !last) {
      n_threads = utils::inumeric(FLERR, arg[++k], false, lmp);
      if (n_threads < 1 || n_threads > 1024)
        error->all(FLERR, "pair_style schnet: threads is {}; it must be between 1 and 1024",
                   n_threads);
    } else {
      error->all(FLERR,
                 "pair_style schnet: {} is not known or lacks its value; compressed, torchscript, "
                 "device cpu|cuda|cuda:N and threads N are",
                 word);
    }
  }
  if (std::string(update->unit_style) != "metal")
    error->all(FLERR, "pair_style schnet needs units metal, not {}", update->unit_style);
}

// pair_coeff * * model.pt Na Cl …
void PairMlselSchnet::coeff(int narg, char **arg)
{
  if (!allocated) allocate();
  const int ntypes = atom->ntypes;
  if (narg != 3 + ntypes)
    error->all(FLERR,
               "pair_coeff of pair_style schnet is: * * file and one element or NULL for each of "
               "the {} atom types; {} arguments were given",
               ntypes, narg);
  if (std::string(arg[0]) != "*" || std::string(arg[1]) != "*")
    error->all(FLERR, "pair_coeff of pair_style schnet must begin with * *, not {} {}", arg[0],
               arg[1]);
  close_model();
  read_model(arg[2]);

  std::string known;
  for (const std::string &one : file.species) known += ' ' + one;
  type_species.assign(ntypes + 1, -1);
  for (int type = 1; type <= ntypes; type++) {
    const std::string word = arg[2 + type];
    if (word == "NULL") continue;
    const auto found = std::find(file.species.begin(), file.species.end(), word);
    if (found == file.species.end())
      error->all(FLERR, "{} knows nothing of {} (atom type {}), only of{}", path, word, type, known);
    type_species[type] = static_cast<int>(found - file.species.begin());
  }
  open_model();
  for (int i = 1; i <= ntypes; i++)
    for (int j = i; j <= ntypes; j++)
      setflag[i][j] = type_species[i] >= 0 && type_species[j] >= 0 ? 1 : 0;
}

/// Rank 0 reads the file for all, and every rank finds the same in it.
void PairMlselSchnet::read_model(const std::string &given)
{
  path = given;
  std::string bytes, cause;
  if (comm->me == 0) {
    try {
      bytes = mlsel::read_file(path);
      if (bytes.size() > 2000000000u) cause = path + " is larger than 2 GB";
    } catch (const std::exception &exception) {
      cause = exception.what();
    }
  }
  int sizes[2] = {static_cast<int>(cause.size()), cause.empty() ? static_cast<int>(bytes.size()) : 0};
  MPI_Bcast(sizes, 2, MPI_INT, 0, world);
  cause.resize(sizes[0]);
  MPI_Bcast(cause.data(), sizes[0], MPI_CHAR, 0, world);
  if (!cause.empty()) error->all(FLERR, "pair_style schnet: {}", cause);
  bytes.resize(sizes[1]);
  MPI_Bcast(bytes.data(), sizes[1], MPI_CHAR, 0, world);
  try {
    file = mlsel::ModelFile::parse(path, std::move(bytes));
  } catch (const std::exception &exception) {
    cause = exception.what();
  }
  agree(cause);
}

/// Go on if no rank has a cause to stop; else end with the cause.
void PairMlselSchnet::agree(const std::string &cause)
{
  const int failed = !cause.empty();
  int n_failed = 0;
  MPI_Allreduce(&failed, &n_failed, 1, MPI_INT, MPI_SUM, world);
  if (n_failed == comm->nprocs) error->all(FLERR, "pair_style schnet: {}", cause);
  if (n_failed)
    error->one(FLERR, "pair_style schnet: {}", failed ? cause : "another process has failed");
}

void PairMlselSchnet::open_model()
{
  const bool compressed =
      mode == Mode::compressed || (mode == Mode::automatic && file.has_compressed);
  int rank_on_node = 0, n_sharing = 1, device_used = -1;
  mlsel::share_node(world, rank_on_node, n_sharing);
  const int threads = n_threads ? n_threads : mlsel::default_threads(n_sharing);
  std::string cause;
  try {
    if (compressed) {
      model = mlsel::CompressedModel::make(file, threads);
      file.compressed.arrays.clear();
    } else {
      torch = mlsel::bridge_function<mlsel_torch_api_function>("libmlsel_torch.so", "mlsel_torch")();
      const char *answer =
          torch->open(file.bytes.data(), file.bytes.size(), device, rank_on_node, threads,
                      file.dtype == "float64", file.n_layers, file.widths.data(), file.cutoff,
                      &torch_model, &device_used);
      if (answer) cause = path + " cannot be opened by torch: " + answer;
    }
  } catch (const std::exception &exception) {
    cause = exception.what();
    if (mode == Mode::compressed && !file.has_compressed) cause = path + ": " + cause;
  }
  agree(cause);
  file.bytes.clear();
  file.bytes.shrink_to_fit();

  comm_forward = 2;    // who owns a ghost
  if (comm->me == 0)
    utils::logmesg(lmp, "pair_style schnet: {} ({}, {}), {}, {} thread{} on each process\n", path,
                   file.model, file.dtype,
                   compressed ? std::string("compressed, ") + model->kernel()
                              : "torchscript, " +
                           (device_used < 0 ? std::string("cpu") : "cuda:" + std::to_string(device_used)),
                   threads, threads == 1 ? "" : "s");
}

void PairMlselSchnet::close_model()
{
  model.reset();
  if (torch_model) torch->close(torch_model);
  torch_model = nullptr;
}
