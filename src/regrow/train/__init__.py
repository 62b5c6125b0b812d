"""Training runs: a plain loop over objects, in a folder, resumable bit for bit.

What other rooms call:

    loop.fit(job, folder, fabric=None, on_progress=None, on_difference=warn) -> dict     # = result.json
    loop.Progress(step, total_steps, epoch, epochs, loss, row | None)                    # to on_progress, every step
    job.Job(model, optimizer, data, loss, epochs, batch_size, seed, sparsifier=None, scheduler=None,
            scheduler_every="epoch" | "step", evaluate_every=1, checkpoint_every=None, threads=None, flops=None,
            plan=(), selection="last" | "best", superposition=None, reestimate=False)
    devices.launched(device="auto", precision="32-true")     # context manager: a Fabric, also under torchrun
    paths.RunFolder(path), RunFolder.of("<recipe>-<hash8>", seed, root=Path("runs")), .finished and every file name
    record.read_json(path), record.write_json(path, record), record.rows(folder), record.environment(surroundings)
    state.restore(job, folder) -> content                    # a finished run's weights, back into the job's objects
    surroundings.commit(), surroundings.differences(stored, now)
    atomic.write(path, data)                                 # every file of a run goes through it

Result keys: test_accuracy test_nll test_ece test_loss val_accuracy val_loss loss,
seed epochs batch_size steps_per_epoch data steps,
exploration_rate density exploration_by_layer density_by_layer nnz numel parameters bytes topology_digest model_digest,
seconds_per_step seconds_per_update seconds_per_epoch seconds, checkpoint_bytes flops; of a run on a plan selection
tickets ensemble, and superposed or refused.
Row keys: step epoch loss val_loss val_accuracy exploration_rate density lr and the four seconds.
"""
