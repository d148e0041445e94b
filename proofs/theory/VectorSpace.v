(** R^n, as functions of n indices, is a Banach space in every norm that sees each entry; weighted l1 and linf are. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Metric BanachSpace Vectors.
Local Open Scope R_scope.
Set Implicit Arguments.

(** A norm on R^n, with its comparison to the entries (which every norm has). *)
Record vector_norm (n : nat) : Type := {
  size : vec n -> R;
  size_add : forall x y, size (fun i => x i + y i) <= size x + size y;
  size_scale : forall a x, size (fun i => a * x i) = Rabs a * size x;
  size_sees : exists C, forall x i, Rabs (x i) <= C * size x;
  size_seen : exists C, forall x, size x <= C * sum (fun i => Rabs (x i))
}.

Lemma sum_const n c : sum (fun _ : Fin.t n => c) = INR n * c.
Proof.
  induction n as [|n IH]; [simpl; ring|]. rewrite S_INR. simpl. unfold tail. rewrite IH. ring.
Qed.

(** Finitely many things that happen from some time on happen together from some time on. *)
Lemma together n (P : Fin.t n -> nat -> Prop) :
  (forall i, exists N, forall k, (N <= k)%nat -> P i k) -> exists N, forall k, (N <= k)%nat -> forall i, P i k.
Proof.
  induction n as [|n IH]; intros each.
  - exists 0%nat. intros k _ i. exact (Fin.case0 (fun i => P i k) i).
  - destruct (each Fin.F1) as [N HN]. destruct (IH (fun i => P (Fin.FS i)) (fun i => each (Fin.FS i))) as [K HK].
    exists (Nat.max N K). intros k later. apply by_index; [apply HN; lia | apply HK; lia].
Qed.

Lemma size_full n (E : vector_norm n) (u : nat -> vec n) :
  (forall eps, 0 < eps -> exists N, forall k l, (N <= k)%nat -> (N <= l)%nat ->
     size E (fun i => u k i + - u l i) < eps) ->
  exists s, forall eps, 0 < eps -> exists N, forall k, (N <= k)%nat -> size E (fun i => u k i + - s i) < eps.
Proof.
  intros cau. destruct (size_sees E) as [C sees]. destruct (size_seen E) as [B seen].
  assert (each : forall i, Cauchy_crit (fun k => u k i)).
  { intros i eps pos. assert (pos' : 0 < eps / (Rabs C + 1)) by (apply Rdiv_lt_0_compat; pose proof (Rabs_pos C); lra).
    destruct (cau _ pos') as [N HN]. exists N. intros k l Hk Hl. specialize (HN k l Hk Hl).
    pose proof (sees (fun i => u k i + - u l i) i) as near. simpl in near. unfold R_dist, Rminus.
    set (v := size E _) in *. pose proof (Rabs_pos (u k i + - u l i)). pose proof (Rle_abs C). pose proof (Rabs_pos C).
    assert (scaled : (Rabs C + 1) * v < eps).
    { apply Rmult_lt_compat_l with (r := Rabs C + 1) in HN; [|lra].
      replace ((Rabs C + 1) * (eps / (Rabs C + 1))) with eps in HN by (field; lra). exact HN. }
    destruct (Rle_lt_dec 0 v) as [v0|v0]; [nra|].
    (* a negative size would make entries negative *)
    pose proof (size_scale E (-1) (fun i => u k i + - u l i)) as turned. fold v in turned.
    pose proof (size_add E (fun i => u k i + - u l i) (fun i => -1 * (u k i + - u l i))) as sum0. fold v in sum0.
    rewrite turned in sum0. rewrite Rabs_left in sum0 by lra.
    pose proof (size_scale E 0 (fun i => u k i + - u l i)) as none. fold v in none. rewrite Rabs_R0, Rmult_0_l in none.
    replace (fun i => u k i + - u l i + -1 * (u k i + - u l i)) with (fun i => 0 * (u k i + - u l i)) in sum0
      by (extensionality j; ring). rewrite none in sum0. lra. }
  exists (fun i => proj1_sig (R_complete _ (each i))). intros eps pos.
  set (s := fun i => proj1_sig (R_complete _ (each i))).
  assert (pos' : 0 < eps / ((Rabs B + 1) * (INR n + 1))).
  { pose proof (Rabs_pos B). pose proof (pos_INR n). apply Rdiv_lt_0_compat; [lra|]. apply Rmult_lt_0_compat; lra. }
  destruct (together (fun i k => Rabs (u k i - s i) < eps / ((Rabs B + 1) * (INR n + 1)))) as [N HN].
  { intros i. destruct (proj2_sig (R_complete _ (each i)) _ pos') as [N HN]. exists N. exact HN. }
  exists N. intros k later. specialize (HN k later).
  apply Rle_lt_trans with (1 := seen _).
  assert (bound : sum (fun i => Rabs (u k i + - s i)) <= INR n * (eps / ((Rabs B + 1) * (INR n + 1)))).
  { rewrite <- sum_const. apply sum_le. intros i. left. exact (HN i). }
  assert (s0 : 0 <= sum (fun i => Rabs (u k i + - s i))) by (apply sum_nonneg; intros i; apply Rabs_pos).
  pose proof (Rabs_pos B) as b0. pose proof (Rle_abs B). pose proof (pos_INR n) as n0.
  apply Rle_lt_trans with ((Rabs B + 1) * sum (fun i => Rabs (u k i + - s i))).
  { apply Rmult_le_compat_r; [exact s0 | lra]. }
  apply Rle_lt_trans with ((Rabs B + 1) * (INR n * (eps / ((Rabs B + 1) * (INR n + 1))))).
  - apply Rmult_le_compat_l; lra.
  - replace ((Rabs B + 1) * (INR n * (eps / ((Rabs B + 1) * (INR n + 1))))) with (eps * (INR n / (INR n + 1)))
      by (field; lra).
    assert (INR n / (INR n + 1) < 1).
    { apply Rmult_lt_reg_r with (INR n + 1); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l; lra. }
    nra.
Qed.

Definition vector_space (n : nat) (E : vector_norm n) : banach.
Proof.
  refine {| point := vec n; zero := fun _ => 0; add x y := fun i => x i + y i; neg x := fun i => - x i;
            scale a x := fun i => a * x i; norm := size E; norm_add := size_add E; norm_scale := size_scale E;
            norm_full := size_full E |}.
  1-8: intros; extensionality i; ring.
  intros x none. destruct (size_sees E) as [C sees]. extensionality i.
  specialize (sees x i). rewrite none, Rmult_0_r in sees. pose proof (Rabs_pos (x i)).
  destruct (Req_dec (x i) 0) as [zero|apart]; [exact zero|]. pose proof (Rabs_pos_lt _ apart). lra.
Defined.

Lemma weight_below n (w : Fin.t n -> posreal) i : w i <= sum (fun i => w i).
Proof. apply (@sum_term n (fun i => w i)). intros j. left. apply cond_pos. Qed.

(** The weighted entries w_i |x_i|. *)
Definition weighed (n : nat) (w : Fin.t n -> posreal) (x : vec n) : vec n := fun i => w i * Rabs (x i).

Lemma weighed_nonneg n (w : Fin.t n -> posreal) x i : 0 <= weighed w x i.
Proof. apply Rmult_le_pos; [left; apply cond_pos | apply Rabs_pos]. Qed.

Lemma weighed_seen n (w : Fin.t n -> posreal) x :
  sum (weighed w x) <= sum (fun i => w i) * sum (fun i => Rabs (x i)).
Proof.
  rewrite <- sum_scale. apply sum_le. intros i. apply Rmult_le_compat_r; [apply Rabs_pos | apply weight_below].
Qed.

Lemma weighed_sees n (w : Fin.t n -> posreal) x i c : weighed w x i <= c ->
  Rabs (x i) <= sum (fun i => / w i) * c.
Proof.
  intros below. pose proof (cond_pos (w i)) as pos. pose proof (weighed_nonneg w x i) as m0.
  assert (term : / w i <= sum (fun i => / w i)).
  { apply (@sum_term n (fun i => / w i)). intros j. left. apply Rinv_0_lt_compat, cond_pos. }
  apply Rle_trans with (/ w i * c).
  - apply Rmult_le_reg_l with (1 := pos). rewrite <- Rmult_assoc, Rinv_r, Rmult_1_l by lra. exact below.
  - apply Rmult_le_compat_r; [lra | exact term].
Qed.

Lemma weighed_add n (w : Fin.t n -> posreal) x y i :
  weighed w (fun i => x i + y i) i <= weighed w x i + weighed w y i.
Proof.
  unfold weighed. rewrite <- Rmult_plus_distr_l. apply Rmult_le_compat_l; [left; apply cond_pos | apply Rabs_triang].
Qed.

Lemma weighed_scale n (w : Fin.t n -> posreal) a x i : weighed w (fun i => a * x i) i = Rabs a * weighed w x i.
Proof. unfold weighed. rewrite Rabs_mult. ring. Qed.

(** The norm max w_i |x_i|. *)
Definition sup_norm (n : nat) (w : Fin.t n -> posreal) : vector_norm n.
Proof.
  refine {| size := fun x => most (weighed w x) |}.
  - intros x y. pose proof (most_nonneg (weighed w x)). pose proof (most_nonneg (weighed w y)).
    apply most_lub; [lra|]. intros i. apply Rle_trans with (1 := weighed_add w x y i).
    apply Rplus_le_compat; apply most_term.
  - intros a x. pose proof (Rabs_pos a) as a0. pose proof (most_nonneg (weighed w x)) as m0. apply Rle_antisym.
    + apply most_lub; [nra|]. intros i. rewrite weighed_scale. apply Rmult_le_compat_l; [exact a0 | apply most_term].
    + destruct a0 as [pos|<-]; [|rewrite Rmult_0_l; apply most_nonneg].
      apply Rmult_le_reg_l with (/ Rabs a); [apply Rinv_0_lt_compat; exact pos|].
      rewrite <- Rmult_assoc, Rinv_l, Rmult_1_l by lra. apply most_lub.
      * apply Rmult_le_pos; [left; apply Rinv_0_lt_compat; exact pos | apply most_nonneg].
      * intros i. apply Rmult_le_reg_l with (1 := pos). rewrite <- Rmult_assoc, Rinv_r, Rmult_1_l by lra.
        rewrite <- weighed_scale. apply most_term.
  - exists (sum (fun i => / w i)). intros x i. apply weighed_sees. apply most_term.
  - exists (sum (fun i => w i)). intros x. apply Rle_trans with (2 := weighed_seen w x).
    apply most_lub; [apply sum_nonneg, weighed_nonneg | apply sum_term, weighed_nonneg].
Defined.

(** The norm sum w_i |x_i|. *)
Definition sum_norm (n : nat) (w : Fin.t n -> posreal) : vector_norm n.
Proof.
  refine {| size := fun x => sum (weighed w x) |}.
  - intros x y. rewrite <- sum_add. apply sum_le. apply weighed_add.
  - intros a x. rewrite <- sum_scale. apply sum_ext. apply weighed_scale.
  - exists (sum (fun i => / w i)). intros x i. apply weighed_sees. apply sum_term. apply weighed_nonneg.
  - exists (sum (fun i => w i)). apply weighed_seen.
Defined.
