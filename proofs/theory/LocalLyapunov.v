(** T12 [local_lyapunov]: T2 in the norm of a positive definite matrix P, on an ellipsoid E around c. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Metric LocalPicard BanachSpace HilbertSpace RealLine Activations.
From Deqops Require Import Vectors VectorSpace DotProduct Slopes Componentwise.
Local Open Scope R_scope.
Set Implicit Arguments.

(** v^T P v, the norm of P, and the ellipsoid. *)
Definition form (n : nat) (P : mat n n) (v : vec n) : R := sum (fun i => v i * apply P v i).
Definition form_size (n : nat) (P : mat n n) (v : vec n) : R := sqrt (form P v).
Definition ellipsoid (n : nat) (P : mat n n) (c : vec n) (r : R) (y : vec n) : Prop :=
  form_size P (difference y c) <= r.

Definition positive_definite (n : nat) (P : mat n n) : Prop :=
  (forall i j, P i j = P j i) /\ forall v, (exists i, v i <> 0) -> 0 < form P v.

Lemma iterate_iter (M : Metric_Space) (G : Base M -> Base M) y k : Nat.iter k G y = iterate M G y k.
Proof. induction k as [|k IH]; simpl; [reflexivity | now rewrite IH]. Qed.

(** (M v)^T P (M v) <= q^2 v^T P v for all v says M^T P M <= q^2 P. *)
Theorem local_lyapunov (n : nat) (P : mat n n) (c : vec n) (r q : R) (G : vec n -> vec n) (slope : mat n n -> Prop) :
  positive_definite P -> 0 <= r -> 0 <= q < 1 ->
  (forall y z, ellipsoid P c r y -> ellipsoid P c r z ->
     exists M, slope M /\ difference (G y) (G z) = apply M (difference y z)) ->
  (forall M, slope M -> forall v, form P (apply M v) <= q * q * form P v) ->
  form_size P (difference (G c) c) <= (1 - q) * r ->
  exists s, ellipsoid P c r s /\ G s = s
  /\ (forall t, ellipsoid P c r t -> G t = t -> t = s)
  /\ (forall z0, ellipsoid P c r z0 ->
        (forall i eps, 0 < eps -> exists K, forall k, (K <= k)%nat -> Rabs (Nat.iter k G z0 i - s i) < eps)
        /\ (forall k, form_size P (difference (Nat.iter k G z0) s)
                        <= q ^ k / (1 - q) * form_size P (difference (G z0) z0))
        /\ (forall k, form_size P (difference (Nat.iter (k + 1) G z0) s)
                        <= q / (1 - q) * form_size P (difference (Nat.iter (k + 1) G z0) (Nat.iter k G z0))))
  /\ (forall y, ellipsoid P c r y -> form_size P (difference y s) <= form_size P (difference (G y) y) / (1 - q)).
Proof.
  intros [symmetric definite] radius range sloped bounded room.
  set (E := dot_space (matrix_product P symmetric definite)).
  assert (lip : lipschitz (metric E) (ball (metric E) c r) q G).
  { intros y z By Bz. destruct (sloped y z By Bz) as [M [here step]].
    change (form_size P (difference (G y) (G z)) <= q * form_size P (difference y z)). rewrite step.
    rewrite <- (sqrt_square q) by lra. unfold form_size.
    rewrite <- sqrt_mult_alt by nra. apply sqrt_le_1_alt. exact (bounded M here _). }
  destruct (@local_picard (metric E) G c r q radius range lip room (@metric_complete E))
    as [s [Bs [fixed [only [conv bound]]]]].
  exists s. split; [exact Bs|]. split; [exact fixed|]. split; [exact only|]. split; [|exact bound].
  intros z0 B0. destruct (conv z0 B0) as [lim [prior posterior]]. split; [|split].
  - intros i eps pos. destruct (@entry_tends n _ _ _ lim i eps pos) as [K HK]. exists K. intros k late.
    rewrite (iterate_iter (metric E)). exact (HK k late).
  - intros k. rewrite (iterate_iter (metric E)). exact (prior k).
  - intros k. rewrite !(iterate_iter (metric E)). exact (posterior k).
Qed.

(** The hypotheses can be met where the plain Euclidean norm fails: relu of [[1/2, 2], [0, 1/2]] y, P = diag(1, 100),
    q = 3/4, on ellipsoids of every size around 0. *)
Definition shear : net 2 2 :=
  units (affine (input 2) (square (1/2) 2 0 (1/2)) (pair 0 0)) (fun _ => relu) (pair 0 0) (pair 1 1).

Theorem local_lyapunov_instance (r : R) : 0 <= r ->
  let P := square 1 0 0 100 in
  positive_definite P /\ verified (ellipsoid P (pair 0 0) r) shear
  /\ (forall M, products shear M -> forall v, form P (apply M v) <= 3/4 * (3/4) * form P v)
  /\ form_size P (difference (run shear (pair 0 0)) (pair 0 0)) <= (1 - 3/4) * r
  /\ 1 < run shear (pair 0 1) Fin.F1 - run shear (pair 0 0) Fin.F1.
Proof.
  intros r0 P.
  assert (value : forall v : vec 2, form P v = v Fin.F1 * v Fin.F1 + 100 * (v (Fin.FS Fin.F1) * v (Fin.FS Fin.F1))).
  { intros v. unfold form, P. rewrite sum_pair, apply_square. simpl. ring. }
  split; [split|split; [|split; [|split]]].
  - intros i j. revert i. apply by_pair; revert j; apply by_pair; reflexivity.
  - intros v [i some]. rewrite value. pose proof (Rle_0_sqr (v Fin.F1)). pose proof (Rle_0_sqr (v (Fin.FS Fin.F1))).
    unfold Rsqr in *. revert i some.
    apply (by_pair (fun i => v i <> 0 -> 0 < v Fin.F1 * v Fin.F1 + 100 * (v (Fin.FS Fin.F1) * v (Fin.FS Fin.F1))));
      intros some; pose proof (Rsqr_pos_lt _ some) as square0; unfold Rsqr in square0; lra.
  - split; [split; exact I|]. intros i. split.
    + revert i. apply by_pair; simpl; lra.
    + intros p p' _ _ apart. destruct slopes_activations as [slope _].
      pose proof (slope p p' I I apart) as range. revert i. apply by_pair; exact range.
  - intros M [N [t [[K [unit weights]] [range ->]]]] v. rewrite unit in weights.
    pose proof (range Fin.F1) as t0. pose proof (range (Fin.FS Fin.F1)) as t1. simpl in t0, t1.
    rewrite !value, !apply_scaled_rows, weights, apply_times, apply_unit, apply_square. simpl.
    set (a := v Fin.F1). set (b := v (Fin.FS Fin.F1)).
    set (u := t Fin.F1) in *. set (w := t (Fin.FS Fin.F1)) in *.
    assert (u * u <= 1) by nra. assert (w * w <= 1) by nra.
    replace (u * (1 / 2 * a + 2 * b) * (u * (1 / 2 * a + 2 * b))) with
      (u * u * ((1 / 2 * a + 2 * b) * (1 / 2 * a + 2 * b))) by ring.
    replace (w * (0 * a + 1 / 2 * b) * (w * (0 * a + 1 / 2 * b))) with (w * w * (1 / 4 * (b * b))) by field.
    assert (0 <= (1 / 2 * a + 2 * b) * (1 / 2 * a + 2 * b)) by apply Rle_0_sqr.
    assert (0 <= b * b) by apply Rle_0_sqr.
    apply Rle_trans with ((1 / 2 * a + 2 * b) * (1 / 2 * a + 2 * b) + 100 * (1 / 4 * (b * b))); [nra|].
    pose proof (Rle_0_sqr (a - 4 * b)) as s. unfold Rsqr in s. nra.
  - unfold form_size. rewrite value. unfold difference, shear; simpl. rewrite !apply_square. unfold relu; simpl.
    rewrite Rmax_left by lra.
    rewrite (Rmax_left 0 (0 * 0 + 1 / 2 * 0 + 0)) by lra.
    match goal with |- sqrt ?e <= _ => replace e with 0 by ring end. rewrite sqrt_0. nra.
  - unfold shear; simpl. rewrite !apply_square. unfold relu; simpl. rewrite Rmax_right, Rmax_left by lra. lra.
Qed.
