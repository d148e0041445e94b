(** Lemma [slopes]: differences of a composition of affine maps and elementwise functions are products of its layers,
    with slopes taken in the intervals that hold their difference quotients. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Metric RealLine Activations Vectors.
Local Open Scope R_scope.
Set Implicit Arguments.

(** The difference quotients of s between points of I lie in [a, b]. *)
Definition quotients (I : R -> Prop) (a b : R) (s : R -> R) : Prop :=
  forall p p', I p -> I p' -> p <> p' -> a <= (s p - s p') / (p - p') <= b.

(** A map from R^n: affine maps and elementwise functions, each unit with its interval of slopes. *)
Inductive net (n : nat) : nat -> Type :=
  | input : net n n
  | affine (k m : nat) (before : net n k) (W : mat m k) (c : vec m) : net n m
  | units (m : nat) (before : net n m) (s : Fin.t m -> R -> R) (a b : vec m) : net n m.

Fixpoint run (n m : nat) (g : net n m) : vec n -> vec m :=
  match g in net _ m return vec n -> vec m with
  | input _ => fun y => y
  | affine before W c => fun y i => apply W (run before y) i + c i
  | units before s _ _ => fun y i => s i (run before y i)
  end.

(** The intervals hold the difference quotients of each unit between those numbers that reach it from S. *)
Fixpoint verified (n m : nat) (S : vec n -> Prop) (g : net n m) : Prop :=
  match g with
  | input _ => True
  | affine before _ _ => verified S before
  | @units _ m before s a b => verified S before
      /\ forall i : Fin.t m, a i <= b i /\ quotients (fun p => exists y, S y /\ p = run before y i) (a i) (b i) (s i)
  end.

(** The products of the layers with every slope taken anywhere in its interval. *)
Fixpoint products (n m : nat) (g : net n m) : mat m n -> Prop :=
  match g in net _ m return mat m n -> Prop with
  | input _ => fun M => M = @unit_matrix n
  | affine before W _ => fun M => exists N, products before N /\ M = times W N
  | @units _ m before _ a b => fun M => exists (N : mat m n) (t : vec m),
      products before N /\ (forall i, a i <= t i <= b i) /\ M = (fun i j => t i * N i j)
  end.

Lemma apply_scaled_rows m n (t : vec m) (N : mat m n) (x : vec n) i :
  apply (fun i j => t i * N i j) x i = t i * apply N x i.
Proof. unfold apply. rewrite <- sum_scale. apply sum_ext. intros j. ring. Qed.

(** On any set S; of the second part, [size] and [size'] may be any norms. *)
Theorem slopes (n m : nat) (S : vec n -> Prop) (g : net n m) : verified S g ->
  (forall y z, S y -> S z ->
     exists M, products g M /\ difference (run g y) (run g z) = apply M (difference y z))
  /\ (forall (size : vec n -> R) (size' : vec m -> R) (q : R),
        (forall M, products g M -> forall v, size' (apply M v) <= q * size v) ->
        forall y z, S y -> S z -> size' (difference (run g y) (run g z)) <= q * size (difference y z)).
Proof.
  intros holds.
  assert (found : forall y z, S y -> S z ->
            exists M, products g M /\ difference (run g y) (run g z) = apply M (difference y z)).
  2: { split; [exact found|]. intros size size' q bound y z Sy Sz.
       destruct (found y z Sy Sz) as [M [here ->]]. exact (bound M here _). }
  intros y z Sy Sz. induction g as [|k m before IH W c|m before IH s a b].
  - exists (@unit_matrix n). split; [reflexivity|]. symmetry. apply apply_unit.
  - destruct (IH holds) as [N [here step]]. exists (times W N). split; [exists N; auto|].
    rewrite apply_times, <- step, apply_difference. extensionality i. unfold difference; simpl. ring.
  - destruct holds as [earlier each]. destruct (IH earlier) as [N [here step]].
    set (p := run before y) in *. set (p' := run before z) in *.
    exists (fun i j => (if Req_EM_T (p i) (p' i) then a i else (s i (p i) - s i (p' i)) / (p i - p' i)) * N i j).
    split.
    + exists N, (fun i => if Req_EM_T (p i) (p' i) then a i else (s i (p i) - s i (p' i)) / (p i - p' i)).
      split; [exact here|]. split; [|reflexivity].
      intros i. destruct (each i) as [order range]. destruct (Req_EM_T (p i) (p' i)) as [same|apart]; [lra|].
      apply range; [exists y; auto | exists z; auto | exact apart].
    + extensionality i. rewrite apply_scaled_rows, <- step. unfold difference; simpl. fold p p'.
      destruct (Req_EM_T (p i) (p' i)) as [->|apart]; [ring | field; lra].
Qed.

(** For differentiable functions: a derivative within [a, b] on a convex set, where S's convexity enters. *)
Theorem slopes_derivative (I : R -> Prop) (s slope : R -> R) (a b : R) :
  (forall p p' t, I p -> I p' -> p <= t <= p' -> I t) ->
  (forall p, I p -> derivable_pt_lim s p (slope p) /\ a <= slope p <= b) -> quotients I a b s.
Proof.
  intros convex diff.
  assert (up : forall p p', I p -> I p' -> p < p' -> a <= (s p' - s p) / (p' - p) <= b).
  { intros p p' Ip Ip' order.
    destruct (MVT_cor2 s slope p p' order) as [t [mean between]].
    { intros t between. apply diff. exact (convex p p' t Ip Ip' between). }
    rewrite mean. replace (slope t * (p' - p) / (p' - p)) with (slope t) by (field; lra).
    apply diff, (convex p p'); auto; lra. }
  intros p p' Ip Ip' apart. destruct (Rtotal_order p p') as [below|[same|above]]; [|contradiction|].
  - replace ((s p - s p') / (p - p')) with ((s p' - s p) / (p' - p)) by (field; lra). auto.
  - apply up; auto.
Qed.

(** Everywhere: relu and tanh have their slopes in [0, 1], the logistic sigmoid in [0, 1/4]. *)
Theorem slopes_activations :
  quotients (fun _ => True) 0 1 relu /\ quotients (fun _ => True) 0 1 tanh /\
    quotients (fun _ => True) 0 (1 / 4) sigmoid.
Proof.
  assert (tanh_slopes : quotients (fun _ => True) 0 1 tanh).
  { apply slopes_derivative with (slope := fun x => / (cosh x * cosh x)); [auto|].
    intros x _. pose proof (cosh_positive x). pose proof (cosh_sinh x). split; [apply tanh_derivative|]. split.
    - left. apply Rinv_0_lt_compat. nra.
    - rewrite <- Rinv_1. apply Rinv_le_contravar; nra. }
  split; [|split; [exact tanh_slopes|]].
  - assert (up : forall p p', p < p' -> 0 <= (relu p' - relu p) / (p' - p) <= 1).
    { intros p p' order. assert (i0 : 0 < / (p' - p)) by (apply Rinv_0_lt_compat; lra).
      assert (one : (p' - p) * / (p' - p) = 1) by (apply Rinv_r; lra).
      assert (0 <= relu p' - relu p <= p' - p) by (unfold relu, Rmax; destruct (Rle_dec 0 p), (Rle_dec 0 p'); lra).
      unfold Rdiv. nra. }
    intros p p' _ _ apart. destruct (Rtotal_order p p') as [below|[same|above]]; [|contradiction|auto].
    replace ((relu p - relu p') / (p - p')) with ((relu p' - relu p) / (p' - p)) by (field; lra). auto.
  - intros p p' _ _ apart. rewrite !sigmoid_tanh.
    pose proof (tanh_slopes (p / 2) (p' / 2) I I ltac:(lra)) as t.
    replace (((1 + tanh (p / 2)) / 2 - (1 + tanh (p' / 2)) / 2) / (p - p'))
      with (1 / 4 * ((tanh (p / 2) - tanh (p' / 2)) / (p / 2 - p' / 2))) by (field; lra).
    lra.
Qed.
